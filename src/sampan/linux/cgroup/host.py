"""Which cgroup hierarchies this host has: cgroups(7), proc(5) (mountinfo)."""

from __future__ import annotations

import os

from sampan.errors import Unsupported
from sampan.lean.structs import Struct
from sampan.linux import mountinfo
from sampan.linux.cgroup import controlfile

V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb", "rdma")
"""The v1 controllers that a container's group uses, where mounted."""

V1_OTHERS = ("net_cls", "net_prio", "perf_event", "misc")
"""Those that limit nothing. A container's group may be in them all the same, as in the named ones ("name=systemd"):
programs inside look for themselves there.
"""

_V2_DOES_IT = ("freezer", "cpuacct")
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


class Host(Struct, frozen=True):
    """The host's hierarchies. Plain data: detected once, sent with each start request.

    `mode` is "v1", "v2" or "hybrid". `v1` maps a controller to the mount point of its hierarchy (two controllers may
    share one). `v2` is the mount point of the unified hierarchy or "", `v2_controllers` what can be enabled there.
    `v2_freezer`: the v2 hierarchy can freeze (Linux 5.2), so no v1 freezer is needed.
    """

    mode: str
    v1: dict[str, str] = {}
    v2: str = ""
    v2_controllers: list[str] = []
    v2_freezer: bool = False

    def without_v2(self) -> Host:
        """The v1 hierarchies alone: on a hybrid host v2 holds no limits, and moving into it is slow."""
        return Host("v1", self.v1) if self.v1 else self


def detect(others: bool = False) -> Host:
    """Look at this process's mounts. `others`: with the v1 hierarchies that limit nothing (V1_OTHERS, named ones).

    Raises Unsupported when no cgroup file system is mounted.
    """
    v1: dict[str, str] = {}
    v2 = ""
    for mount in mountinfo.own():
        if mount.kind == "cgroup2":
            v2 = v2 or mount.target
        elif mount.kind == "cgroup":
            for controller in V1_CONTROLLERS:
                if controller in mount.super_options:
                    v1.setdefault(controller, mount.target)
            for option in mount.super_options if others else ():
                if option in V1_OTHERS or option.startswith("name="):
                    v1.setdefault(option, mount.target)
    if not v1 and not v2:
        raise Unsupported("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")
    available: list[str] = []
    if v2:
        present = controlfile.read(v2, "cgroup.controllers").split()
        available = [name for name in V2_CONTROLLERS if name in present]
    mode = "v2" if not v1 else "hybrid" if v2 else "v1"
    return Host(mode, v1, v2, available, bool(v2) and kernel_release() >= (5, 2))


def hierarchies(host: Host) -> dict[str, str]:
    """The v1 hierarchies a group takes part in: controller → mount point. Only these may be shown inside a container.

    On hybrid hosts the v2 directory freezes and counts cpu time by itself: two hierarchies less, 120 µs a start. Those
    that share a mount with a needed one come along at no cost.
    """
    if host.mode != "hybrid" or not host.v2_freezer:
        return dict(host.v1)
    mounts = {mount_point for name, mount_point in host.v1.items() if name not in _V2_DOES_IT}
    return {name: mount_point for name, mount_point in host.v1.items() if mount_point in mounts}


def kernel_release() -> tuple[int, int]:
    """The running kernel's version: (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or "0")
