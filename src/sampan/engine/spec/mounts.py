"""The spec's mounts: what every container has, over it what the user asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from sampan.engine.spec import namespaces
from sampan.errors import InvalidArgument
from sampan.oci.runtime import Mount

_QUIET: Final = ("nosuid", "noexec", "nodev")
_TMPFS_DEFAULTS: Final = (*_QUIET, "mode=1777")
_TMPFS_FLAGS: Final = frozenset((
    "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "remount", "mand",
    "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "bind", "rbind",
    "defaults", "tmpcopyup",
))
_TMPFS_NOT_HERE: Final = frozenset(("remount", "bind", "rbind", "mand", "nomand"))
_TMPFS_VALUES: Final = {
    "size": re.compile(r"[0-9]{1,18}[kKmMgG%]?"),
    "mode": re.compile(r"[0-7]{1,5}"),
    "uid": re.compile(r"[0-9]{1,10}"),
    "gid": re.compile(r"[0-9]{1,10}"),
    "nr_inodes": re.compile(r"[0-9]{1,18}[kKmMgG]?"),
    "nr_blocks": re.compile(r"[0-9]{1,18}[kKmMgG]?"),
    "mpol": re.compile(r"[a-z0-9=:,-]{1,64}"),
}
# What LXCFS and its like put over single files of /proc; anything else there could forge what the runtime writes to.
_OVER_PROC: Final = frozenset((
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid",
))


class Point(Protocol):
    """An entry of inspect's `Mounts`, sources already resolved: `type` is bind, volume or tmpfs."""

    @property
    def type(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def rw(self) -> bool: ...
    @property
    def propagation(self) -> str: ...


def make(
    host_config: Mapping[str, Any], points: Iterable[Point], files: Mapping[str, str], writable_cgroups: bool = False
) -> list[Mount]:
    """All mounts, in the order in which to make them: one below another comes after it.

    `files`: destination → source of the generated ones (/etc/hosts, …), which a user's mount replaces. Raises
    InvalidArgument for a place or an option that cannot be.
    """
    asked = [*_points(host_config, points), *_tmpfs(host_config)]
    for mount in asked:
        _check_place(mount)
    places = {mount.destination for mount in asked}
    defaults = [
        mount for mount in _defaults(host_config, writable_cgroups)
        if mount.destination not in places and not ("/dev" in places and mount.destination.startswith("/dev/"))
    ]
    generated = [
        Mount(destination=destination, type="bind", source=source, options=_file_options(host_config))
        for destination, source in files.items()
        if destination not in places
    ]
    return defaults + sorted(asked + generated, key=lambda mount: mount.destination.count("/"))


def _defaults(host_config: Mapping[str, Any], writable_cgroups: bool) -> list[Mount]:
    privileged = bool(host_config.get("Privileged"))
    read_only = [] if privileged else ["ro"]
    quiet = list(_QUIET)
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    cgroups = quiet if privileged or writable_cgroups else [*quiet, "ro"]
    found = [
        Mount(destination="/proc", type="proc", source="proc", options=quiet),
        Mount(destination="/dev", type="tmpfs", source="tmpfs", options=[
            "nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount(destination="/dev/pts", type="devpts", source="devpts", options=pts),
        Mount(destination="/sys", type="sysfs", source="sysfs", options=[*quiet, *read_only]),
        Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=cgroups),
        Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=quiet),
    ]
    ipc = namespaces.mode(host_config, "ipc")
    if ipc == "host":
        found.append(Mount(destination="/dev/shm", type="bind", source="/dev/shm", options=["rbind", "rprivate"]))
    elif host_config.get("IpcMode") != "none":
        size = f"size={host_config.get('ShmSize') or 64 << 20}"
        found.append(Mount(destination="/dev/shm", type="tmpfs", source="shm", options=[*quiet, "mode=1777", size]))
    return found


def _file_options(host_config: Mapping[str, Any]) -> list[str]:
    return ["rbind", "rprivate", *(["ro"] if host_config.get("ReadonlyRootfs") else [])]


def _points(host_config: Mapping[str, Any], points: Iterable[Point]) -> list[Mount]:
    asked = {mount.get("Target"): mount for mount in host_config.get("Mounts") or ()}
    found = []
    for point in points:
        said = asked.get(point.destination) or asked.get(f"{point.destination}/") or {}
        if point.type == "tmpfs":
            found.append(_tmpfs_point(point, said.get("TmpfsOptions") or {}))
        else:
            found.append(_bind(point, said.get("BindOptions") or {}))
    return found


def _bind(point: Point, options: Mapping[str, Any]) -> Mount:
    """Read-only holds for what is mounted below the source too, unless that is declined (API 1.44)."""
    alone = bool(options.get("NonRecursive"))
    given = ["bind" if alone else "rbind", point.propagation or "rprivate"]
    if not point.rw:
        given.append("ro" if alone or options.get("ReadOnlyNonRecursive") else "rro")
    return Mount(destination=point.destination, type="bind", source=point.source, options=given)


def _tmpfs_point(point: Point, options: Mapping[str, Any]) -> Mount:
    given = [f"size={options['SizeBytes']}"] if options.get("SizeBytes") else []
    if options.get("Mode"):
        given.append(f"mode={int(options['Mode']) & 0o7777:o}")
    given += ["=".join(map(str, pair)) for pair in options.get("Options") or ()]
    if not point.rw:
        given.append("ro")
    return _tmpfs_mount(point.destination, given)


def _tmpfs(host_config: Mapping[str, Any]) -> list[Mount]:
    return [
        _tmpfs_mount("/" + destination.strip("/"), [option for option in options.split(",") if option])
        for destination, options in (host_config.get("Tmpfs") or {}).items()
    ]


def _tmpfs_mount(destination: str, options: Sequence[str]) -> Mount:
    bad = [option for option in options if not _is_tmpfs_option(option)]
    if bad:
        listed = " ".join(f'"{option[:64]}"' for option in bad)
        raise InvalidArgument(f"invalid tmpfs option [{listed}]")
    return Mount(destination=destination, type="tmpfs", source="tmpfs", options=[*_TMPFS_DEFAULTS, *options])


def _is_tmpfs_option(option: str) -> bool:
    key, separator, value = option.partition("=")
    if not separator:
        return option in _TMPFS_FLAGS and option not in _TMPFS_NOT_HERE
    return key in _TMPFS_VALUES and _TMPFS_VALUES[key].fullmatch(value) is not None


def _check_place(mount: Mount) -> None:
    """CVE-2015-3631, CVE-2019-16884: nothing but the host's own procfs is mounted over /proc."""
    place = mount.destination
    if not place.startswith("/") or place.rstrip("/") == "" or "/../" in f"{place}/" or "\0" in place:
        raise InvalidArgument(f"invalid mount path: '{place[:200]}'")
    if place == "/proc" and mount.source == "/proc" and mount.type == "bind":
        return
    if (place == "/proc" or place.startswith("/proc/")) and place not in _OVER_PROC:
        raise InvalidArgument(f'"{place}" cannot be mounted because it is inside /proc')
