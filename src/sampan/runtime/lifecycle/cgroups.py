"""Which cgroup a container gets: by the spec's cgroupsPath, the driver, and what this user may do."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.linux import cgroup
from sampan.linux.cgroup import Group, Host, cgroupfs, devices
from sampan.oci import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.lifecycle.records import Record


def path_of(spec: oci.Spec, container_id: str, systemd: bool) -> str:
    """The spec's cgroupsPath, or the runtime's choice: a group named as the container."""
    path = spec.linux.cgroups_path if spec.linux is not None else ""
    if systemd:
        if path and path.count(":") != 2:
            raise InvalidArgument(
                f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {path!r} instead'
            )
        return path or f":sampan:{container_id}"
    return path or container_id


def host(rootless: bool) -> Host | None:
    """The hierarchies to use: on hybrid hosts v1 alone (docs/architecture.md). None: rootless, and there are none."""
    try:
        return cgroup.detect().without_v2()
    except Unsupported:
        if rootless:
            return None
        raise


def make(record: Record, resources: oci.Resources | None, rootless: bool) -> tuple[Group | None, list[str]]:
    """The group with its limits, and the host's warnings; None and a warning where an ordinary user may not make one.

    Undone if it fails.
    """
    assert record.host is not None
    try:
        group = Group.create(record.host, record.cgroups_path)
    except (OSError, SampanError) as error:
        if rootless and (isinstance(error, (PermissionError, Unsupported)) or getattr(error, "errno", 0) == 30):
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            return None, [f"no cgroup was made, so no limit holds: {why} (systemd-run --user --scope delegates one)"]
        raise
    try:
        return group, group.apply(_limits(resources, rootless))
    except BaseException:
        group.remove()
        raise


def make_scope(record: Record, pid: int, resources: oci.Resources | None) -> Group:
    """The same by systemd, which puts `pid` in."""
    from sampan.linux.cgroup import systemd

    assert record.host is not None
    return systemd.create(record.host, record.cgroups_path, pid, _limits(resources, rootless=False))


def _limits(resources: oci.Resources | None, rootless: bool) -> oci.Resources:
    """The spec's, with the device rules complete. An ordinary user may not say who uses devices (EPERM)."""
    wanted = resources if resources is not None else oci.Resources()
    wanted.devices = [] if rootless else devices.complete(oci.DeviceCgroup, wanted.devices)
    return wanted


def directories(record: Record) -> dict[str, str]:
    """Where the group will be: written down before it is made, so that a delete finds what a killed create left."""
    assert record.host is not None
    if record.systemd:
        return {}
    return cgroupfs.directories(record.host, record.cgroups_path, cgroup.hierarchies(record.host))


def is_rootless(wish: str) -> bool:
    """`--rootless`: "true", "false" or "auto": whoever is not root of the first user namespace."""
    if wish == "auto":
        return os.geteuid() != 0 or not _maps_everything()
    return wish == "true"


def _maps_everything() -> bool:
    fd = os.open("/proc/self/uid_map", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 200).split() == [b"0", b"0", b"4294967295"]
    finally:
        os.close(fd)
