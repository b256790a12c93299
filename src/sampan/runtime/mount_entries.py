"""From the spec's mounts and devices to operations. Pure: what cannot be is refused before anything is done."""

from __future__ import annotations

import itertools

from sampan.errors import InvalidArgument
from sampan.linux import mount
from sampan.linux.cgroup.host import hierarchies
from sampan.runtime import devices, options, target
from sampan.runtime.cgroup_mount import Hierarchy, MountCgroups
from sampan.runtime.devices import MakeDevice, PopulateDev
from sampan.runtime.mounts import BindMount, MountFilesystem, ReadonlyMounts, Remount
from sampan.runtime.users import MAX_KERNEL_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.linux.cgroup import Host
    from sampan.oci import runtime as oci
    from sampan.runtime.operation import Operation
    from sampan.runtime.options import MountOptions

_DEFAULT_DEVICES = {f"/dev/{name}": (major, minor) for name, major, minor in devices.DEFAULTS}
_MODE_BITS = 0o7777


def check(entries: Sequence[oci.Mount]) -> list[str]:
    """Warnings: for destinations that are relative, which the spec forbids since 1.0 and runc takes from / still."""
    return [
        f"mount destination {entry.destination!r} is not absolute, as the spec asks: it is taken as "
        f"{target.clean(entry.destination)!r}"
        for entry in entries if not entry.destination.startswith("/")
    ]


def operations(
    linux: oci.Linux, entries: Sequence[oci.Mount], host: Host | None, own_cgroups: bool, prepared: Mapping[int, int]
) -> list[Operation]:
    """The mounts in the spec's order. `prepared`: index of an entry → descriptor of its source (mount_sources.py)."""
    return [
        operation(entry, host, own_cgroups, linux.mount_label, prepared.get(index, -1))
        for index, entry in enumerate(entries)
    ]


def operation(
    entry: oci.Mount, host: Host | None, own_cgroups: bool, label: str = "", prepared: int = -1
) -> Operation:
    """One mount. Raises InvalidArgument, with the destination."""
    parsed = options.parse(entry.options)
    destination = target.clean(entry.destination)
    if not entry.destination or destination == "/":
        raise InvalidArgument(f"mount destination {entry.destination!r} is the root itself: nothing is mounted over it")
    for text in (entry.destination, entry.source, entry.type, *entry.options):
        if "\0" in text:
            raise InvalidArgument(f"mount {destination!r}: a NUL character in {text!r}")
    if parsed.remount:
        return Remount(destination, parsed)
    if is_bind(entry, parsed):
        return _bind(entry, destination, parsed, prepared)
    if wants_id_map(entry, parsed):
        raise InvalidArgument(f"mount {destination!r}: id-mapped mounts are only supported for bind mounts")
    if entry.type in ("cgroup", "cgroup2"):
        return _cgroups(destination, parsed, host, own_cgroups)
    if not entry.type:
        raise InvalidArgument(f"mount {destination!r}: neither a type nor the option bind is given")
    return MountFilesystem(entry.type, entry.source, destination, parsed, label)


def is_bind(entry: oci.Mount, parsed: MountOptions) -> bool:
    """The option decides, whatever the type says: engines write "none" or "bind" beside it."""
    return parsed.bind or entry.type == "bind"


def wants_id_map(entry: oci.Mount, parsed: MountOptions) -> bool:
    return bool(parsed.id_map or entry.uid_mappings or entry.gid_mappings)


def _bind(entry: oci.Mount, destination: str, parsed: MountOptions, prepared: int) -> Operation:
    if not entry.source:
        raise InvalidArgument(f"mount {destination!r}: a bind needs a source")
    if parsed.data:
        raise InvalidArgument(
            f"mount {destination!r}: bind mounts cannot have any filesystem-specific options applied: "
            f"{', '.join(repr(key) for key in parsed.data)}"
        )
    if wants_id_map(entry, parsed) and prepared < 0:
        raise InvalidArgument(f"mount {destination!r}: an id-mapped mount has to be made by the runtime")
    return BindMount(entry.source, destination, parsed, prepared)


def _cgroups(destination: str, parsed: MountOptions, host: Host | None, own: bool) -> Operation:
    shown = _hierarchies(host) if host is not None and host.mode != "v2" else ()
    return MountCgroups(destination, parsed, shown, own)


def _hierarchies(host: Host) -> tuple[Hierarchy, ...]:
    """The v1 hierarchies by their mount points: controllers mounted together share one, as "cpu,cpuacct"; and on a
    hybrid host the v2 one, as "unified".
    """
    together: dict[str, list[str]] = {}
    for controller, point in hierarchies(host).items():
        together.setdefault(point, []).append(controller)
    found = [Hierarchy(point.rpartition("/")[2], ",".join(names), point) for point, names in together.items()]
    if host.mode == "hybrid":
        found.append(Hierarchy("unified", "", host.v2))
    return tuple(found)


def device_operations(
    linux: oci.Linux, mounts: Sequence[oci.Mount], prepared: Mapping[int, int] | None = None
) -> list[Operation]:
    """What goes into /dev; nothing when it is a bind: the host's or an image's own /dev is left alone. `prepared`: key
    of a device → descriptor of a mount of its node (mount_sources.py).
    """
    for entry in mounts:
        if target.clean(entry.destination) == "/dev" and is_bind(entry, options.parse(entry.options)):
            return []
    return [PopulateDev(), *nodes(linux, prepared or {}).values()]


def nodes(linux: oci.Linux, prepared: Mapping[int, int]) -> dict[int, MakeDevice]:
    """The devices to make beside those that are there whatever the spec lists; their keys are below -1."""
    made = {}
    for key, device in zip(itertools.count(-2, -1), linux.devices):
        path = target.clean(device.path)
        default = _DEFAULT_DEVICES.get(path, (device.major, device.minor))
        if path != "/dev/ptmx" and default == (device.major, device.minor):
            made[key] = _device(device, path, prepared.get(key, -1))
    return made


def _device(device: oci.Device, path: str, prepared: int) -> MakeDevice:
    if device.type not in devices.KINDS:
        raise InvalidArgument(f"device {device.path!r}: type {device.type!r} is none of c, u, b, p")
    if path == "/" or "\0" in path:
        raise InvalidArgument(f"device path {device.path!r} is not the path of a file")
    mode = 0o666 if device.file_mode is None else device.file_mode
    if not 0 <= mode < 1 << 32:
        raise InvalidArgument(f"device {device.path!r}: fileMode {mode} is out of range")
    major, minor = (device.major, device.minor) if device.type != "p" else (0, 0)
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise InvalidArgument(f"device {device.path!r}: {major}:{minor} is not the number of a device")
    if not (0 <= device.uid <= MAX_KERNEL_ID and 0 <= device.gid <= MAX_KERNEL_ID):
        raise InvalidArgument(f"device {device.path!r}: the owner {device.uid}:{device.gid} is out of range")
    return MakeDevice(path, device.type, major, minor, mode & _MODE_BITS, device.uid, device.gid, prepared)


def readonly_operations(entries: Sequence[oci.Mount]) -> list[Operation]:
    """What makes those mounts read-only that had to be filled first; after devices, terminal and sysctls."""
    for entry in entries:
        parsed = options.parse(entry.options)
        if (parsed.set | parsed.recursive_set) & mount.ATTR_RDONLY:
            return [ReadonlyMounts()]
    return []
