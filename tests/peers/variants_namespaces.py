"""Variants of namespaces, devices and cgroups."""

from __future__ import annotations

import os

from peers.bundle import Bundle
from peers.variant import expected, variant


@variant()
def devices(bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1000, "gid": 50},
        {"path": "/dev/deep/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o660},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o644},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3, "fileMode": 0o640},
        {"path": "/etc/zero", "type": "c", "major": 1, "minor": 5},
    ]



@variant()
def namespaces_of_the_host(bundle: Bundle) -> None:
    bundle.namespaces("mount")
    bundle.config["hostname"] = ""
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["type"] not in ("mqueue", "sysfs")]


@variant()
def pids_of_the_host(bundle: Bundle) -> None:
    bundle.namespaces("mount", "uts", "ipc", "network")


@variant()
def network_of_the_host(bundle: Bundle) -> None:
    bundle.namespaces("mount", "uts", "ipc", "pid")


def _own_cgroups(bundle: Bundle) -> None:
    """On v2 that is runc's default."""
    if {"type": "cgroup"} not in bundle.linux["namespaces"]:
        bundle.linux["namespaces"].append({"type": "cgroup"})


@variant()
def cgroup_namespace(bundle: Bundle) -> None:
    _own_cgroups(bundle)


@expected(  # runc since 1.2; crun 1.8 takes its child's pid for another's and kills that one
    {
        "timens_offsets": "monotonic 1000 5 boottime 2000 0",
        "namespace time": "own", "namespace time_for_children": "own",
    }
)
def time_namespace(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1000, "nanosecs": 5}, "boottime": {"secs": 2000}}


def _mapped(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    owned_by(bundle, 100000)


def owned_by(bundle: Bundle, first: int) -> None:
    """Give the root file system to a user namespace whose 0 is `first`."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        info = path.lstat()
        os.lchown(path, info.st_uid + first, info.st_gid + first)
    (bundle.rootfs / "etc" / "secret").chmod(0o640)


@variant()
def user_namespace(bundle: Bundle) -> None:
    _mapped(bundle)


@variant()
def user_namespace_and_user(bundle: Bundle) -> None:
    _mapped(bundle)
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [50]}


@variant()
def user_namespace_of_pieces(bundle: Bundle) -> None:
    _mapped(bundle)
    pieces = [(0, 100000, 10), (10, 100010, 990), (1000, 101000, 64536)]
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [{"containerID": inner, "hostID": outer, "size": size} for inner, outer, size in pieces]


@variant()
def user_namespace_devices_and_sysctls(bundle: Bundle) -> None:
    _mapped(bundle)
    bundle.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]
    bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80"}
    _own_cgroups(bundle)


@variant("crun", base=_mapped)  # runc since 1.2
def mapped_mount(bundle: Bundle) -> None:
    _mapped(bundle)
    bundle.mount("/mnt", "bind", "idmap", source="a/")
    (bundle.directory / "source" / "a" / "file").write_text("x")
    one = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.config["mounts"][-1] |= {"uidMappings": one, "gidMappings": one}



@variant()
def group_by_path(bundle: Bundle) -> None:
    bundle.linux["cgroupsPath"] = "/sampan-view-parent/deep/er"


@variant()
def group_namespace_and_writable_mount(bundle: Bundle) -> None:
    _own_cgroups(bundle)
    for mount in bundle.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
