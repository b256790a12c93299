"""Which cgroup a container gets: by the spec's cgroupsPath, the driver, and what this user may do."""

from __future__ import annotations

import os

from sampan.errors import Conflict, Forbidden, InvalidArgument
from sampan.lean.structs import to_builtins
from sampan.linux import userns
from sampan.linux.cgroup import cgroupfs, delegation, devices
from sampan.linux.cgroup.group import Group
from sampan.linux.cgroup.host import hierarchies
from sampan.oci import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroup.host import Host
    from sampan.runtime.lifecycle.records import Record

NO_GROUP = "no cgroup was made, so nothing is limited or counted: have one delegated (systemd-run --user --scope)"


def path_of(host: Host, spec: oci.Spec, container_id: str, systemd: bool) -> str:
    """The spec's cgroupsPath, or the runtime's choice: a group named as the container. Raises InvalidArgument."""
    path = spec.linux.cgroups_path if spec.linux is not None else ""
    if not systemd:
        return delegation.resolve(host, path, container_id)
    if path and path.count(":") != 2:
        raise InvalidArgument(
            f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {path!r} instead'
        )
    return path or f":sampan:{container_id}"


def directories(record: Record) -> dict[str, str]:
    """Where the group will be: written down before it is made, so that a delete finds what a killed create left.

    systemd's is known only once it is there.
    """
    assert record.host is not None
    if record.systemd:
        return {}
    return cgroupfs.directories(record.host, record.cgroups_path, hierarchies(record.host))


def make(record: Record, linux: oci.Linux) -> tuple[Group | None, list[str]]:
    """The group with its limits, and the host's warnings. None: an ordinary user may not make one, and nothing in the
    spec needs it. Undone if it fails. Raises Forbidden, and as Group.create, require and apply.
    """
    assert record.host is not None
    group = create(record.host, linux.cgroups_path, record.id, linux.resources)
    if group is None:
        return None, []
    try:
        limits = _limits(linux.resources)
        group.require(limits)
        return group, group.apply(limits)
    except BaseException:
        group.remove()
        raise


def create(host: Host, cgroups_path: str, name: str, resources: oci.Resources | None) -> Group | None:
    """`Group.create` for a spec's `cgroupsPath`; None where a rootless container has to live without a group.

    That is so when nothing was delegated to this user and nothing needs a group: neither a path nor limits. Raises
    Forbidden when something does, Conflict for a group that somebody has frozen, and as Group.create.
    """
    path = delegation.resolve(host, cgroups_path, name)
    if Group.reopen(host, cgroupfs.directories(host, path)).frozen():
        raise Conflict(f"container's cgroup unexpectedly frozen: nothing starts in /{path} before it is thawed")
    if not delegation.is_rootless() or delegation.may_create(host, path):
        return Group.create(host, path)
    top = host.v2 or next(iter(host.v1.values()), "/sys/fs/cgroup")
    where = f"unable to apply cgroup configuration: make cgroup /{path} below {top}: permission denied"
    if cgroups_path:
        raise Forbidden(where)
    if resources is not None and has_limits(resources):
        raise Forbidden(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: have one delegated "
            f"(systemd-run --user --scope -p Delegate=yes ...), or take the limits out; {where}"
        )
    return None


def has_limits(resources: oci.Resources) -> bool:
    """Whether anything is asked for that only a group can give; device rules, which every spec has, do not count.

    Nor does what engines write for "none": 0, false, -1, an object without members.
    """
    parts = to_builtins(resources)
    parts.pop("devices", None)
    return any(_limits_something(part) for part in parts.values())


def _limits_something(value: object) -> bool:
    if isinstance(value, dict):
        return any(_limits_something(member) for member in value.values())
    return bool(value) and value != -1


def make_scope(record: Record, pid: int, linux: oci.Linux) -> Group:
    """The same by systemd, which puts `pid` in where it knows of the hierarchy."""
    from sampan.linux.cgroup import systemd  # allowed: only with the systemd driver

    assert record.host is not None
    return systemd.create(record.host, record.cgroups_path, pid, _limits(linux.resources), record.annotations)


def _limits(resources: oci.Resources | None) -> oci.Resources:
    """The spec's, with the device rules complete. An ordinary user may not say who uses devices (EPERM)."""
    wanted = resources if resources is not None else oci.Resources()
    wanted.devices = [] if delegation.is_rootless() else devices.complete(oci.DeviceCgroup, wanted.devices)
    return wanted


def hand_over(group: Group, spec: oci.Spec) -> None:
    """A container with a user namespace of its own may make groups below its own one (cgroups(7), delegation)."""
    linux = spec.linux
    if linux is None or not may_delegate(spec):
        return
    uids, gids = userns.of_spec(linux.uid_mappings), userns.of_spec(linux.gid_mappings)
    if uids and gids and os.geteuid() == 0:
        delegation.hand_over(group, userns.to_host(uids, 0), userns.to_host(gids, 0))


def may_delegate(spec: oci.Spec) -> bool:
    """Whether its group is the container's to own: namespaces of its own, and cgroups mounted to write. As runc."""
    kinds = {namespace.type for namespace in spec.linux.namespaces} if spec.linux is not None else set()
    writable = any(mount.type in ("cgroup", "cgroup2") and "ro" not in mount.options for mount in spec.mounts)
    return {"user", "cgroup"} <= kinds and writable
