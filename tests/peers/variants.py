"""Bundles that differ from `runc spec`'s default in one thing each."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from peers.bundle import Bundle, Change
from sampan.engine.spec.seccomp import default_policy

BOTH = ("runc", "crun")


def default(bundle: Bundle) -> None:
    pass


@dataclass(frozen=True)
class Variant:
    name: str
    change: Change = default
    peers: tuple[str, ...] = BOTH
    """Which of the others can run it: Debian 12 has runc 1.1 and crun 1.8."""
    base: Change = default
    """What it changes; matters where runc cannot run it: there runc's view of the base counts."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Facts beside the base's, where none of the others can run it."""

    def __str__(self) -> str:
        return self.name


VARIANTS: list[Variant] = [Variant("default")]
CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def variant(*peers: str, base: Change = default) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        VARIANTS.append(Variant(change.__name__, change, peers or BOTH, base))
        return change

    return keep


def expected(facts: Mapping[str, str]) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        VARIANTS.append(Variant(change.__name__, change, (), expected=facts))
        return change

    return keep


def _capabilities(bundle: Bundle, **sets: str) -> None:
    bundle.process["capabilities"] = {
        name: [f"CAP_{word.upper()}" for word in sets.get(name, "").split()] for name in CAPABILITY_SETS
    }


# -- the process


@variant()
def user(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 50, 1000], "umask": 0o027}


@variant()
def user_without_a_name(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 4711, "gid": 4712}


@variant()
def user_with_capabilities(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    some = "chown kill net_bind_service"
    _capabilities(bundle, bounding=some, effective=some, permitted=some, inheritable=some, ambient="kill")


@variant()
def no_capabilities(bundle: Bundle) -> None:
    _capabilities(bundle)


@variant()
def no_capabilities_member(bundle: Bundle) -> None:
    del bundle.process["capabilities"]


@variant()
def capability_sets_that_differ(bundle: Bundle) -> None:
    _capabilities(bundle, bounding="chown kill mknod", permitted="chown kill", effective="kill", inheritable="chown")


@variant()
def privileges_may_grow(bundle: Bundle) -> None:
    bundle.process["noNewPrivileges"] = False


@variant()
def rlimits(bundle: Bundle) -> None:
    bundle.process["rlimits"] = [
        {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
        for name, soft, hard in [
            ("NOFILE", 100, 200), ("NPROC", 500, 600), ("CORE", 0, 0), ("FSIZE", 1 << 30, 1 << 31), ("STACK", 1 << 20, 1 << 24),
            ("AS", 1 << 32, 1 << 33), ("CPU", 100, 200), ("DATA", 1 << 30, 1 << 31), ("LOCKS", 10, 20), ("MEMLOCK", 0, 4096),
            ("MSGQUEUE", 1000, 2000), ("NICE", 0, 0), ("RSS", 1 << 30, 1 << 31), ("RTPRIO", 0, 0), ("RTTIME", 1000, 2000),
            ("SIGPENDING", 10, 20),
        ]
    ]


@variant()
def environment(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "A=1", "B=", "C=a=b c", "A=2", "HOME=/nowhere", "LANG=é"]


@variant()
def environment_without_home(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}


@variant()
def environment_without_home_or_user(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": 4711, "gid": 4711}


@variant()
def cwd(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/etc"


@variant()
def cwd_that_is_new(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/new/one"


@variant()
def oom_score(bundle: Bundle) -> None:
    bundle.process["oomScoreAdj"] = 321


@variant()
def argument_path(bundle: Bundle) -> None:
    bundle.process["args"][0] = "/bin/sh"


@variant("crun")  # runc since 1.2
def personality(bundle: Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX32"}


@expected({"policy": "3", "nice": "5"})  # runc since 1.2, crun since 1.9
def scheduler(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}


@expected({"scheduler": "best-effort: prio 6 3"})
def io_priority(bundle: Bundle) -> None:
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}


@variant()
def seccomp(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }


@variant()
def seccomp_of_docker(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = docker_seccomp()
    bundle.process["noNewPrivileges"] = False


# -- the root and what is mounted


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
        bundle.mount(f"/mnt/{kind}", type="tmpfs", *[kind])


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


# -- devices


@variant()
def devices(bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1000, "gid": 50},
        {"path": "/dev/deep/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o660},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o644},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3, "fileMode": 0o640},
        {"path": "/etc/zero", "type": "c", "major": 1, "minor": 5},
    ]


# -- namespaces


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


@variant()
def cgroup_namespace(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "cgroup"})


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
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        info = path.lstat()
        os.lchown(path, info.st_uid + 100000, info.st_gid + 100000)
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
    bundle.linux["namespaces"].append({"type": "cgroup"})


@variant("crun", base=_mapped)  # runc since 1.2
def mapped_mount(bundle: Bundle) -> None:
    _mapped(bundle)
    bundle.mount("/mnt", "bind", "idmap", source="a/")
    (bundle.directory / "source" / "a" / "file").write_text("x")
    one = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.config["mounts"][-1] |= {"uidMappings": one, "gidMappings": one}


# -- groups


@variant()
def group_by_path(bundle: Bundle) -> None:
    bundle.linux["cgroupsPath"] = "/sampan-view-parent/deep/er"


@variant()
def group_namespace_and_writable_mount(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "cgroup"})
    for mount in bundle.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]


def docker_seccomp() -> Any:
    """Docker's default policy, as an engine hands it to a runtime."""
    policy = default_policy(frozenset({"CAP_CHOWN", "CAP_KILL"}), os.uname().machine, (6, 1))
    return msgspec.json.decode(msgspec.json.encode(policy))
