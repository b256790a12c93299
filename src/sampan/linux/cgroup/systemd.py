"""The systemd driver: a container's group is a unit that systemd was asked for, so it knows of it and leaves it alone.

`cgroupsPath` is "slice:prefix:name", as Docker and Podman write it: "system.slice:docker:ID" is docker-ID.scope in
system.slice; a name that ends in .slice becomes a slice. Delegate=yes makes the group ours; DefaultDependencies=no
keeps it until it is stopped. Limits that systemd has words for are told to it as well as written (unit_properties.py),
or `systemctl daemon-reload` would undo them; the rest is written to the files as the cgroupfs driver does.

A scope is made of processes: so the container's first process comes before its group. On v2 systemd puts it there; of
v1's hierarchies systemd knows some, so it still has to join (`Group.open_join_fds`).

Needs the jeepney package (the "systemd" extra). Imported only when this driver is asked for.
"""

from __future__ import annotations

import copy
import os

from sampan.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from sampan.linux.cgroup import cgroupfs, delegation, unit_properties
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.cgroup.controlfile import number, text
from sampan.linux.cgroup.group import Group
from sampan.linux.cgroup.host import V1_OTHERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.linux.cgroup.host import Host
    from sampan.linux.cgroup.systemd_manager import Manager
    from sampan.linux.cgroup.unit_properties import Property
    from sampan.oci.runtime import Resources

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_LONGEST = 255
_UNKNOWN = frozenset(("cpuset", "freezer", "hugetlb", "rdma", *V1_OTHERS))
"""v1 hierarchies in which systemd makes no slices, nor removes any."""


def create(
    host: Host, cgroups_path: str, pid: int, resources: Resources | None, annotations: Mapping[str, str] | None = None
) -> Group:
    """Make the unit with process `pid` in it, limited as `resources` say; returns when it is there.

    `Group.warnings` says what this host lacks. `annotations`: those named org.systemd.property.* become properties.
    All or nothing, but for the process, which is the caller's to end. Raises InvalidArgument (the path, a value),
    Conflict (a unit of that name has processes), Unsupported (no systemd here, no jeepney, a limit that cannot hold:
    see Group.require), Unavailable, Forbidden.
    """
    manager = _manager()
    try:
        resources = None if resources is None else _permitted(resources)
        slice_name, unit = unit_names(cgroups_path, delegation.is_rootless())
        properties = _kind_of_unit(host, slice_name, unit, pid)
        if resources is not None:
            properties += unit_properties.of_resources(resources, host.mode == "v2", manager.version)
        properties += unit_properties.of_annotations(annotations or {})
        _start(manager, unit, properties)
        try:
            path = manager.control_group(unit).strip("/")
            if not path:
                raise Unavailable(f"systemd ended {unit} at once: its process {pid} is gone")
            group = SystemdGroup(host, path, cgroupfs.adopt(host, path), unit)
            try:
                if unit.endswith(".slice"):
                    group.add(pid)
                if resources is not None:
                    group.require(resources)
                    group.warnings += group.write(resources)
            except BaseException:
                for directory in group.paths().values():
                    cgroupfs.remove(directory)
                raise
        except BaseException:
            _stop(manager, unit)
            raise
        return group
    finally:
        manager.close()


def open(host: Host, cgroups_path: str, directories: Mapping[str, str]) -> Group:
    """The group of a container on record: `directories` is what `Group.paths` gave. Asks systemd nothing yet.

    `directories` empty: its maker may have been killed before it knew them; then the unit's usual place is looked into,
    and `remove` ends what is there. Raises InvalidArgument for a path that is none.
    """
    user = delegation.is_rootless()
    slice_name, unit = unit_names(cgroups_path, user)
    if directories:
        return SystemdGroup(host, cgroupfs.path_of(host, directories), dict(directories), unit)
    above = f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service" if user else ""
    path = "/".join(filter(None, (above, expand_slice(slice_name), unit)))
    if unit.endswith(".slice"):
        path = "/".join(filter(None, (above, expand_slice(unit))))
    return SystemdGroup(host, path, cgroupfs.directories(host, path), unit)


class SystemdGroup(Group):
    """A group that is a unit."""

    def __init__(self, host: Host, path: str, directories: dict[str, str], unit: str) -> None:
        super().__init__(host, path, directories)
        self.unit = unit

    def write(self, resources: Resources) -> list[str]:
        """The files alone, as the cgroupfs driver writes them."""
        return super().apply(resources)

    def apply(self, resources: Resources) -> list[str]:
        """See Group.apply. The kernel is asked first: what it refuses, systemd never hears of.

        Then once more, because systemd rounds (a cpu quota to a percent). While systemd writes v1's device lists anew,
        they deny everything for a moment: so the container is frozen meanwhile.
        """
        resources = _permitted(resources)
        manager = _manager()
        try:
            v2 = self.host.mode == "v2"
            unit_properties.of_resources(resources, v2, manager.version)  # what has no words is refused before anything
            freeze = bool(resources.devices) and not v2 and not self.frozen()
            if freeze:
                self.freeze()
            try:
                warnings = self.write(resources)
                whole = in_force(self.paths(), v2, resources)
                properties = unit_properties.of_resources(whole, v2, manager.version)
                if not properties:
                    return warnings
                manager.set_properties(self.unit, properties)
                return self.write(resources)
            finally:
                if freeze:
                    self.thaw()
        finally:
            manager.close()

    def remove(self) -> None:
        """See Group.remove. Also stops the unit, frees its name, and takes the slices that only we made."""
        if self.exists():
            self.kill_all()
        manager = _manager()
        try:
            _stop(manager, self.unit)
        finally:
            manager.close()
        super().remove()
        for controller in _UNKNOWN.intersection(self.paths()):
            cgroupfs.prune_up(os.path.dirname(self.paths()[controller]), self.path.count("/"))


def in_force(paths: Mapping[str, str], v2: bool, resources: Resources) -> Resources:
    """`resources` with what is in force beside them, where systemd has one word for both: it would undo the other half.

    A quota is told by the second, so it needs the period, and the other way round; swap alone needs the memory limit;
    what is idle no longer has a weight again. Read after `resources` were written.
    """
    whole = copy.deepcopy(resources)
    directory = paths.get(UNIFIED if v2 else "cpu", "")
    if (cpu := whole.cpu) is not None:
        if bool(cpu.quota) != bool(cpu.period):
            cpu.quota, cpu.period = _bandwidth(directory, v2)
        if v2 and cpu.idle == 0 and not cpu.shares and (weight := text(directory, "cpu.weight").strip()):
            whole.unified.setdefault("cpu.weight", weight)
    if v2 and (memory := whole.memory) is not None and memory.swap and not memory.limit:
        memory.limit = number(directory, "memory.max")
    if v2 and "cpu.max" in whole.unified:
        whole.unified["cpu.max"] = text(directory, "cpu.max").strip()
    return whole


def _bandwidth(directory: str, v2: bool) -> tuple[int | None, int | None]:
    """Quota (-1 is none) and period in µs; None where there is no such file."""
    if v2:
        quota, _, period = text(directory, "cpu.max").strip().partition(" ")
    else:
        quota, period = (text(directory, f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return (int(quota) if quota.isdigit() else -1, int(period)) if period else (None, None)


def _permitted(resources: Resources) -> Resources:
    """Without device rules where the caller is not the host's root: the kernel lets nobody else say who uses devices.

    What such a user may not open, a container of theirs may not open either.
    """
    if not (resources.devices and delegation.is_rootless()):
        return resources
    resources = copy.copy(resources)
    resources.devices = []
    return resources


def unit_names(cgroups_path: str, user: bool = False) -> tuple[str, str]:
    """The slice and the unit of "slice:prefix:name". Raises InvalidArgument.

    Without a slice: system.slice, or user.slice of a user's own manager.
    """
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise InvalidArgument(
            'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
            f'got "{cgroups_path}" instead'
        )
    slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if user else "system.slice")
    expand_slice(slice_name)
    unit = name
    if name.endswith(".slice"):
        expand_slice(name)
    else:
        unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not name or len(unit) > _LONGEST or set(unit) - _ALLOWED:
        raise InvalidArgument(f"invalid name of a systemd unit: {unit!r}")
    return slice_name, unit


def expand_slice(name: str) -> str:
    """Where a slice lies: "a-b.slice" is "a.slice/a-b.slice", "-.slice" the root, "". Raises InvalidArgument."""
    stem = name.removesuffix(".slice")
    if stem == "-" and name != stem:
        return ""
    parts = stem.split("-")
    if stem == name or not all(parts) or set(stem) - _ALLOWED or len(name) > _LONGEST or stem.startswith("."):
        raise InvalidArgument(f"invalid slice name: {name!r}")
    return "/".join(f"{'-'.join(parts[: depth + 1])}.slice" for depth in range(len(parts)))


def _kind_of_unit(host: Host, slice_name: str, unit: str, pid: int) -> list[Property]:
    properties: list[Property] = [("Description", ("s", f"container {unit.rpartition('.')[0]}"))]
    if unit.endswith(".slice"):
        properties.append(("Wants", ("as", [slice_name])))
    else:
        properties += [("Slice", ("s", slice_name)), ("Delegate", ("b", True)), ("PIDs", ("au", [pid]))]
    # accounting from the beginning: what a group was not charged for when it began is never seen
    io = "IOAccounting" if host.mode == "v2" else "BlockIOAccounting"
    properties += [(name, ("b", True)) for name in ("CPUAccounting", "MemoryAccounting", "TasksAccounting", io)]
    return [*properties, ("DefaultDependencies", ("b", False))]


def _start(manager: Manager, unit: str, properties: list[Property]) -> None:
    try:
        manager.start_transient(unit, properties)
    except Conflict:
        manager.reset_failed(unit)  # one that failed keeps its name until somebody has looked
        manager.start_transient(unit, properties)


def _stop(manager: Manager, unit: str) -> None:
    manager.stop(unit)
    manager.reset_failed(unit)


def _manager() -> Manager:
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        raise Unsupported("systemd is not running on this host, so it cannot manage cgroups: use the cgroupfs driver")
    try:
        from sampan.linux.cgroup import systemd_manager  # allowed: brings jeepney, which may be missing
    except ImportError as error:
        raise Unsupported("the systemd cgroup driver needs jeepney: pip install 'sampan[systemd]'") from error
    return systemd_manager.Manager(delegation.is_rootless())
