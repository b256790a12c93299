"""Variants of the root file system, of mounts and of masks."""

from __future__ import annotations

import os
import stat

from peers.bundle import Bundle
from peers.variant import variant


@variant()
def readonly_root(bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True


@variant()
def root_by_relative_path(bundle: Bundle) -> None:
    bundle.config["root"]["path"] = "./rootfs/../rootfs"


@variant()
def propagation_slave(bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "rslave"


@variant()
def propagation_shared(bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "rshared"


@variant()
def propagation_private(bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "private"


@variant("runc")  # crun 1.8 ends with EINVAL
def propagation_unbindable(bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "unbindable"


@variant()
def bind_mounts(bundle: Bundle) -> None:
    bundle.mount("/ro", "bind", "ro", source="a/")
    bundle.mount("/rw", "rbind", "rw", "nosuid", "nodev", "noexec", source="b/")
    bundle.mount("/new/deep/er", "bind", source="c/")
    bundle.mount("/etc/secret", "bind", "ro", source="d/file")
    bundle.mount("/new/file", "bind", "rw", source="d/file")
    bundle.mount("/none", "rbind", type="none", source="c/")
    bundle.mount("/mnt", "bind", "noatime", source="e/")


@variant()
def bind_mount_propagation(bundle: Bundle) -> None:
    for kind in ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"):
        bundle.mount(f"/mnt/{kind}", "bind", kind, source="a/")


@variant()
def bind_mount_access_times(bundle: Bundle) -> None:
    for kind in ("noatime", "relatime", "strictatime", "nodiratime", "norelatime", "diratime", "atime"):
        bundle.mount(f"/mnt/{kind}", kind, type="tmpfs")


@variant()
def recursive_attributes(bundle: Bundle) -> None:
    bundle.mount("/ro", "rbind", "rro", source="a/")
    bundle.mount("/rw", "rbind", "rnosuid", "rnodev", "rnoexec", source="b/")


@variant("runc")  # crun 1.8 ends with EINVAL
def recursive_access_times(bundle: Bundle) -> None:
    bundle.mount("/mnt", "rbind", "rro", "rnosuid", "rnoatime", source="c/")


@variant()
def tmpfs(bundle: Bundle) -> None:
    bundle.mount("/tmp", "nosuid", "nodev", "size=65536k", "mode=1770", type="tmpfs", source="tmpfs")
    bundle.mount("/new", "ro", "noexec", type="tmpfs", source="none")
    bundle.mount("/home", type="tmpfs", source="tmpfs")
    bundle.mount("/etc", "size=1m", "uid=1000", "gid=50", "mode=0750", type="tmpfs", source="tmpfs")


@variant()
def tmpfs_with_copies(bundle: Bundle) -> None:
    (bundle.rootfs / "etc" / "dir").mkdir(mode=0o701)
    (bundle.rootfs / "etc" / "dir" / "file").write_text("x")
    os.chown(bundle.rootfs / "etc" / "dir" / "file", 12, 34)
    (bundle.rootfs / "etc" / "link").symlink_to("dir/file")
    bundle.mount("/etc", "tmpcopyup", "nosuid", "size=1m", type="tmpfs", source="tmpfs")


@variant()
def tmpfs_over_a_mode(bundle: Bundle) -> None:
    (bundle.rootfs / "home").chmod(0o2751)
    bundle.mount("/home", type="tmpfs", source="tmpfs")


@variant()
def overlay(bundle: Bundle) -> None:
    for name in ("lower", "upper", "work"):
        (bundle.directory / name).mkdir()
    places = f"lowerdir={bundle.directory}/lower,upperdir={bundle.directory}/upper,workdir={bundle.directory}/work"
    bundle.mount("/mnt", *places.split(","), type="overlay", source="overlay")


@variant()
def more_kernel_file_systems(bundle: Bundle) -> None:
    bundle.mount("/mnt/mqueue", type="mqueue", source="mqueue")
    bundle.mount("/mnt/pts", "newinstance", "ptmxmode=0600", type="devpts", source="devpts")


@variant()
def mounts_over_one_another(bundle: Bundle) -> None:
    bundle.mount("/mnt", type="tmpfs", source="one")
    bundle.mount("/mnt/in", "bind", source="a/")
    bundle.mount("/mnt/in/deep", type="tmpfs", source="two")


@variant()
def mount_through_a_link(bundle: Bundle) -> None:
    (bundle.rootfs / "new").symlink_to("/../../mnt")
    bundle.mount("/new/in", "bind", source="a/")


@variant()
def masked_and_readonly_paths(bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/etc/secret", "/home", "/proc/kcore", "/not/there", "/proc/interrupts"]
    bundle.linux["readonlyPaths"] = ["/tmp", "/proc/sys", "/not/there", "/etc/passwd", "/sys"]


@variant()
def nothing_masked(bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = []
    bundle.linux["readonlyPaths"] = []


@variant()
def no_mounts_but_proc(bundle: Bundle) -> None:
    bundle.config["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]


@variant()
def own_dev(bundle: Bundle) -> None:
    (bundle.directory / "dev").mkdir()
    os.mknod(bundle.directory / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/dev":
            mount |= {"type": "bind", "source": str(bundle.directory / "dev"), "options": ["bind"]}


@variant()
def sysctls(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {
        "kernel.msgmax": "65536", "net.ipv4.ip_unprivileged_port_start": "80", "net.ipv4.ping_group_range": "0 100",
        "kernel.shmmax": "1000000", "fs.mqueue.msg_max": "20",
    }


@variant()
def names(bundle: Bundle) -> None:
    bundle.config["hostname"] = "fair.wind"


@variant("crun")  # runc since 1.2
def domain_name(bundle: Bundle) -> None:
    bundle.config["domainname"] = "harbour"
