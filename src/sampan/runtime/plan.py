"""From an OCI spec to the init stage's plan: which operations, in which order. Pure; tested without root."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass, field
from sampan.linux import clone, mount
from sampan.linux.cgroup import Host, hierarchies
from sampan.oci import runtime as oci
from sampan.runtime import options
from sampan.runtime.clocks import NewTimeNamespace
from sampan.runtime.devices import DEFAULTS, MakeDevice, OpenConsole, PopulateDev
from sampan.runtime.kernel import (
    JoinCgroup,
    JoinNamespace,
    LoopbackUp,
    NewCgroupNamespace,
    NewNetworkNamespace,
    SetHostname,
    SetOomScore,
    SetSysctl,
)
from sampan.runtime.masks import MaskPath, ReadonlyPath
from sampan.runtime.mounts import BindMount, MountCgroups, MountFilesystem
from sampan.runtime.operation import Operation
from sampan.runtime.root import DetachPropagation, EnterRoot, ReadonlyRoot

_MADE_INSIDE = ("cgroup", "network", "time")
_DEFAULT_DEVICES = {f"/dev/{name}" for name, _, _ in DEFAULTS}
_PROPAGATION = {
    "": mount.MS_PRIVATE, "private": mount.MS_PRIVATE, "rprivate": mount.MS_PRIVATE | mount.MS_REC,
    "slave": mount.MS_SLAVE, "rslave": mount.MS_SLAVE | mount.MS_REC, "shared": mount.MS_SHARED,
    "rshared": mount.MS_SHARED | mount.MS_REC, "unbindable": mount.MS_UNBINDABLE,
    "runbindable": mount.MS_UNBINDABLE | mount.MS_REC,
}


@dataclass
class Plan:
    """`inside` runs in the new namespaces up to the pivot; `flags` are clone3's; `console` is in `inside` if any."""

    flags: int
    inside: list[Operation] = field(default_factory=list)
    console: OpenConsole | None = None


def clone_flags(linux: oci.Linux, joined: Mapping[str, int]) -> int:
    """The NEW… flags of clone3. Cgroup, network and time namespaces are made later, by the process itself: the first
    in its group, the others so rarely that they are not made ahead. A user namespace is among the flags when the spec
    asks for a new one with its mappings; one that is given in `joined` is entered.
    """
    flags = 0
    for namespace in linux.namespaces:
        kind = clone.NAMESPACES.get(namespace.type)
        if kind is None:
            raise InvalidArgument(f"unknown namespace type: {namespace.type}")
        if namespace.type not in joined and namespace.type not in _MADE_INSIDE:
            flags |= kind[0]
    return flags


@dataclass
class Extras:
    """What an OCI runtime adds to the plan; the engine's own containers have none of it.

    `first`: before anything else, still on the host's /proc. `before_pivot`: the root is made, its masks are not.
    `entered`: namespaces that the process is in already (kinds of `joined`). `pivot` False: by MS_MOVE and chroot.
    """

    first: list[Operation] = field(default_factory=list)
    before_pivot: list[Operation] = field(default_factory=list)
    entered: bool = False
    pivot: bool = True


def make(
    spec: oci.Spec, root: Operation, join_cgroup: JoinCgroup | None, host: Host | None, joined: Mapping[str, int],
    extras: Extras | None = None,
) -> Plan:
    """The plan for a spec. `root` makes the root file system; `joined`: kind → descriptor of a namespace to enter."""
    linux, process = spec.linux, spec.process
    if linux is None or process is None:
        raise InvalidArgument("the spec has no process or no linux section")
    extras = extras or Extras()
    kinds = {namespace.type for namespace in linux.namespaces}
    if "mount" not in kinds:
        raise InvalidArgument("the spec has no mount namespace: the container would change the host's mounts")
    plan = Plan(clone_flags(linux, joined))
    if process.oom_score_adj is not None:
        plan.inside.append(SetOomScore(process.oom_score_adj))
    plan.inside += extras.first
    if join_cgroup is not None:
        plan.inside.append(join_cgroup)
    plan.inside += _namespaces(spec, {} if extras.entered else joined, kinds - set(joined))
    plan.inside += [DetachPropagation(not linux.rootfs_propagation.endswith(("shared", "slave"))), root]
    for entry in spec.mounts:
        plan.inside.append(_mount(entry, host, "cgroup" in kinds))
    plan.inside += _devices(linux, spec.mounts)
    if process.terminal:
        size = process.console_size
        plan.console = OpenConsole(size.height, size.width) if size else OpenConsole()
        plan.inside.append(plan.console)
    plan.inside += [SetSysctl(key, value) for key, value in linux.sysctl.items()]
    plan.inside += extras.before_pivot
    plan.inside += [ReadonlyPath(path) for path in linux.readonly_paths]
    plan.inside += [MaskPath(path) for path in linux.masked_paths]
    if spec.root is not None and spec.root.readonly:
        plan.inside.append(ReadonlyRoot())
    plan.inside.append(EnterRoot(_PROPAGATION.get(linux.rootfs_propagation, mount.MS_PRIVATE)))
    return plan


def _namespaces(spec: oci.Spec, joined: Mapping[str, int], new: set[str]) -> list[Operation]:
    """`new`: the kinds that are neither the host's nor joined."""
    operations: list[Operation] = [
        JoinNamespace(kind, fd) for kind, fd in joined.items() if kind not in ("pid", "user")
    ]
    if "cgroup" in new:
        operations.append(NewCgroupNamespace())
    if "time" in new:
        assert spec.linux is not None
        operations.append(NewTimeNamespace(spec.linux.time_offsets))
    if "network" in new:
        operations += [NewNetworkNamespace(), LoopbackUp()]
    if (spec.hostname or spec.domainname) and "uts" in new:
        operations.append(SetHostname(spec.hostname, spec.domainname))
    return operations


def _mount(entry: oci.Mount, host: Host | None, own_cgroups: bool) -> Operation:
    parsed = options.parse(entry.options)
    if not entry.destination.startswith("/"):
        raise InvalidArgument(f"mount destination {entry.destination!r} is not an absolute path")
    if parsed.bind or entry.type == "bind":
        parsed.recursive = parsed.recursive or not parsed.bind
        return BindMount(entry.source, entry.destination, parsed)
    if entry.type == "cgroup":
        if not own_cgroups or host is None:
            parsed.recursive = True
            return BindMount("/sys/fs/cgroup", entry.destination, parsed)
        return MountCgroups(entry.destination, parsed, _hierarchies(host), host.mode == "hybrid")
    return MountFilesystem(entry.type, entry.source, entry.destination, parsed)


def _hierarchies(host: Host) -> tuple[tuple[str, str], ...]:
    """The v1 hierarchies as (directory name, controllers): co-mounted controllers share one, as "cpu,cpuacct"."""
    together: dict[str, list[str]] = {}
    for controller, mount_point in hierarchies(host).items():
        together.setdefault(mount_point, []).append(controller)
    return tuple((",".join(controllers), ",".join(controllers)) for controllers in together.values())


def _devices(linux: oci.Linux, mounts: list[oci.Mount]) -> list[Operation]:
    if any(entry.destination == "/dev" and entry.type != "tmpfs" for entry in mounts):
        return []  # the host's or an image's own /dev: nothing is made in it
    operations: list[Operation] = [PopulateDev()]
    for device in linux.devices:
        if device.path in _DEFAULT_DEVICES:
            continue
        mode = 0o666 if device.file_mode is None else device.file_mode
        operations.append(
            MakeDevice(device.path, device.type, device.major, device.minor, mode, device.uid, device.gid)
        )
    return operations
