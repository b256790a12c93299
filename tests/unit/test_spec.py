"""Docker's requests → OCI specs: defaults, every option, and Docker's words for what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from sampan.engine import spec
from sampan.engine.spec import resources
from sampan.engine.spec.capabilities import DEFAULT
from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import Host
from sampan.linux.cgroup.features import Features
from sampan.oci.runtime import Mount, Process, Spec

FACTS = spec.Facts(
    cgroups=Host("v2", {}, "/sys/fs/cgroup", ["memory"]), features=Features(swappiness=True, oom_kill_disable=True),
    kernel=(6, 1), masked=("/sys/devices/system/cpu/cpu0/thermal_throttle",),
)
CONFIG = {"Hostname": "boat", "Cmd": ["true"], "Env": ["A=b"]}


@dataclass
class Point:
    type: str
    source: str
    destination: str
    rw: bool = True
    propagation: str = ""


def made(config: dict[str, Any] | None = None, points: list[Point] | None = None, **host_config: Any) -> spec.Made:
    files = {"/etc/hosts": "/run/hosts"}
    return spec.make(
        CONFIG | (config or {}), host_config, FACTS, cgroups_path="sampan/x", points=points or [], files=files
    )


def process(config: dict[str, Any] | None = None, **host_config: Any) -> Process:
    found = made(config, **host_config).spec.process
    assert found is not None
    return found


def mounts(points: list[Point] | None = None, **host_config: Any) -> dict[str, Mount]:
    return {mount.destination: mount for mount in made(None, points, **host_config).spec.mounts}


def linux(**host_config: Any) -> Any:
    return made(**host_config).spec.linux


def check(config: dict[str, Any] | None = None, facts: spec.Facts = FACTS, **host_config: Any) -> list[str]:
    return spec.check(CONFIG | (config or {}), host_config, facts)


def kinds(**host_config: Any) -> set[str]:
    return {namespace.type for namespace in linux(**host_config).namespaces}


def test_the_defaults_are_dockers() -> None:
    found = made()
    assert found.warnings == []
    assert found.policy is not None
    assert found.policy.default_action == "SCMP_ACT_ERRNO"
    given = found.spec.process
    assert given is not None and given.capabilities is not None
    assert tuple(given.capabilities.bounding) == DEFAULT
    assert given.capabilities.effective == given.capabilities.permitted == given.capabilities.bounding
    assert given.capabilities.inheritable == given.capabilities.ambient == []
    assert not given.no_new_privileges
    assert (given.args, given.cwd, given.user.username) == (["true"], "/", "0")
    assert kinds() == {"mount", "network", "pid", "ipc", "uts", "cgroup"}
    assert [mount.destination for mount in found.spec.mounts] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm", "/etc/hosts",
    ]
    assert "ro" in mounts()["/sys"].options
    assert "ro" in mounts()["/sys/fs/cgroup"].options
    assert "size=67108864" in mounts()["/dev/shm"].options
    assert {"/proc/interrupts", "/proc/kcore", "/sys/firmware", FACTS.masked[0]} <= set(linux().masked_paths)
    assert "/proc/sysrq-trigger" in linux().readonly_paths
    assert linux().cgroups_path == "sampan/x"


def test_a_spec_is_a_config_json() -> None:
    text = msgspec.json.encode(made(Memory=1 << 30, Init=True, PidsLimit=7).spec)
    assert msgspec.json.decode(text, type=Spec) == made(Memory=1 << 30, Init=True, PidsLimit=7).spec
    assert json.loads(text)["linux"]["resources"]["pids"] == {"limit": 7}


@pytest.mark.parametrize(("options", "present", "absent"), [
    ({"CapAdd": ["net_admin"]}, {"CAP_NET_ADMIN", "CAP_CHOWN"}, {"CAP_SYS_ADMIN"}),
    ({"CapDrop": ["CAP_CHOWN"]}, {"CAP_KILL"}, {"CAP_CHOWN"}),
    ({"CapAdd": ["ALL"], "CapDrop": ["SYS_ADMIN"]}, {"CAP_BPF", "CAP_CHOWN"}, {"CAP_SYS_ADMIN"}),
    ({"CapAdd": ["CHOWN"], "CapDrop": ["all"]}, {"CAP_CHOWN"}, {"CAP_KILL"}),
    ({"CapDrop": ["ALL"]}, set(), set(DEFAULT)),
    ({"Privileged": True, "CapDrop": ["ALL"]}, {"CAP_SYS_ADMIN", "CAP_BPF"}, set()),
])
def test_capabilities(options: dict[str, Any], present: set[str], absent: set[str]) -> None:
    given = process(**options).capabilities
    assert given is not None
    assert present <= set(given.bounding)
    assert not absent & set(given.bounding)


def test_capabilities_that_cannot_be_given() -> None:
    with pytest.raises(InvalidArgument, match='unknown capability: "CAP_FLY"'):
        check(CapAdd=["fly"])
    few = replace(FACTS, capabilities=DEFAULT)
    with pytest.raises(InvalidArgument, match='not available in the current environment: "CAP_SYS_ADMIN"'):
        check(facts=few, CapAdd=["SYS_ADMIN"])
    assert check(facts=few, CapDrop=["SYS_ADMIN"], CapAdd=["ALL"]) == []


def test_privileged() -> None:
    found = linux(Privileged=True)
    assert found.masked_paths == found.readonly_paths == []
    assert [(rule.allow, rule.type) for rule in found.resources.devices] == [(True, "a")]
    assert made(Privileged=True).policy is None
    assert "ro" not in mounts(Privileged=True)["/sys"].options
    assert "/dev/null" in {device.path for device in found.devices}
    assert not any(device.path.startswith(("/dev/pts", "/dev/shm")) for device in found.devices)


def test_masked_paths_of_ones_own() -> None:
    assert linux(MaskedPaths=[], ReadonlyPaths=["/proc/bus"]).masked_paths == []
    assert linux(MaskedPaths=[], ReadonlyPaths=["/proc/bus"]).readonly_paths == ["/proc/bus"]


@pytest.mark.parametrize(("option", "missing"), [
    ({"PidMode": "host"}, "pid"), ({"IpcMode": "host"}, "ipc"), ({"UTSMode": "host"}, "uts"),
    ({"NetworkMode": "host"}, "network"), ({"CgroupnsMode": "host"}, "cgroup"),
])
def test_namespaces_of_the_host(option: dict[str, Any], missing: str) -> None:
    assert {"mount", "network", "pid", "ipc", "uts", "cgroup"} - kinds(**option) == {missing}
    assert check(**option) == []


def test_namespaces_by_flag() -> None:
    assert {"user", "time"} <= kinds(UsernsMode="private", TimensMode="private")
    found = linux(UsernsMode="private")
    assert [(entry.container_id, entry.host_id, entry.size) for entry in found.uid_mappings] == [(0, 0, 2**32 - 1)]
    assert found.gid_mappings == found.uid_mappings
    assert "user" not in kinds(UsernsMode="host")


def test_namespaces_of_another_container() -> None:
    found = spec.make(
        CONFIG, {"PidMode": "container:abc", "IpcMode": "container:abc"}, FACTS, cgroups_path="a/b",
        joined={"pid": "/proc/7/fd/3", "ipc": "/proc/7/fd/4"},
    ).spec.linux
    assert found is not None
    paths = {namespace.type: namespace.path for namespace in found.namespaces}
    assert (paths["pid"], paths["ipc"], paths["uts"]) == ("/proc/7/fd/3", "/proc/7/fd/4", "")


@pytest.mark.parametrize(("option", "message"), [
    ({"PidMode": "shared"}, "invalid PID mode: shared"),
    ({"PidMode": "container:"}, "invalid PID mode: container:"),
    ({"IpcMode": "all"}, "invalid IPC mode: all"),
    ({"UTSMode": "container:a"}, "invalid UTS mode: container:a"),
    ({"CgroupnsMode": "x"}, "invalid cgroup namespace mode: x"),
    ({"UsernsMode": "x"}, "invalid user namespace mode: x"),
])
def test_invalid_modes(option: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check(**option)


def test_shm() -> None:
    assert "size=1048576" in mounts(ShmSize=1 << 20)["/dev/shm"].options
    assert "/dev/shm" not in mounts(IpcMode="none")
    assert mounts(IpcMode="host")["/dev/shm"].type == "bind"
    assert mounts(IpcMode="shareable")["/dev/shm"].type == "tmpfs"


def test_binds_and_volumes() -> None:
    found = mounts([
        Point("bind", "/srv", "/data/below"), Point("bind", "/srv", "/ro", rw=False),
        Point("bind", "/srv", "/shared", propagation="rshared"), Point("volume", "/v/_data", "/data"),
        Point("bind", "/h", "/etc/hosts"), Point("bind", "/dev", "/dev"),
    ])
    assert found["/data/below"].options == ["rbind", "rprivate"]
    assert found["/ro"].options == ["rbind", "rprivate", "rro"]
    assert found["/shared"].options == ["rbind", "rshared"]
    assert found["/etc/hosts"].source == "/h"
    assert found["/dev"].source == "/dev"
    assert "/dev/pts" not in found
    order = list(found)
    assert order.index("/data") < order.index("/data/below")
    assert made(None, [Point("bind", "/s", "/s", propagation="rslave")]).spec.linux.rootfs_propagation == "rslave"


def test_mount_options_of_a_bind() -> None:
    asked = [{"Type": "bind", "Target": "/a", "BindOptions": {"NonRecursive": True}},
             {"Type": "bind", "Target": "/b", "BindOptions": {"ReadOnlyNonRecursive": True}}]
    points = [Point("bind", "/s", "/a", rw=False), Point("bind", "/s", "/b", rw=False)]
    found = mounts(points, Mounts=asked)
    assert found["/a"].options == ["bind", "rprivate", "ro"]
    assert found["/b"].options == ["rbind", "rprivate", "ro"]


def test_tmpfs() -> None:
    found = mounts(Tmpfs={"/run": "rw,size=64m,mode=755,exec", "/t": ""})
    assert found["/run"].options == [
        "nosuid", "noexec", "nodev", "mode=1777", "rw", "size=64m", "mode=755", "exec",
    ]
    asked = [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o700}}]
    found = mounts([Point("tmpfs", "", "/m")], Mounts=asked)
    assert found["/m"].options[-2:] == ["size=4096", "mode=700"]


@pytest.mark.parametrize("options", ["size=1,lowerdir=/", "bind", "remount", "size=big", "mode=9", "uid=root", "foo"])
def test_invalid_tmpfs_options(options: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
        check(Tmpfs={"/t": options})


@pytest.mark.parametrize("place", ["/proc", "/proc/sys", "/proc/self/attr", "/proc/1"])
def test_cve_2019_16884_nothing_is_mounted_over_proc(place: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be mounted because it is inside /proc"):
        mounts([Point("volume", "/v", place)])
    mounts([Point("bind", "/lxcfs/meminfo", "/proc/meminfo"), Point("bind", "/proc", "/proc")])


@pytest.mark.parametrize("place", ["/", "", "a", "/a/../../b", "/a\0b"])
def test_cve_2015_3631_places_that_are_none(place: str) -> None:
    with pytest.raises(InvalidArgument):
        mounts([Point("volume", "/v", place)])


def test_a_read_only_root() -> None:
    found = made(ReadonlyRootfs=True).spec
    assert found.root is not None and found.root.readonly
    assert "ro" in mounts(ReadonlyRootfs=True)["/etc/hosts"].options
    assert "ro" not in mounts(ReadonlyRootfs=True)["/dev/shm"].options


def test_the_environment() -> None:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert process().env == [path, "HOSTNAME=boat", "A=b"]
    assert process({"Tty": True}).env == [path, "HOSTNAME=boat", "TERM=xterm", "A=b"]
    assert process({"Tty": True, "Env": ["TERM=dumb", "PATH=/x", "HOSTNAME=h"]}).env == [
        "PATH=/x", "HOSTNAME=h", "TERM=dumb",
    ]
    for bad in ("=x", "", "A=\0"):
        with pytest.raises(InvalidArgument, match="invalid environment variable"):
            check({"Env": [bad]})


def test_the_program() -> None:
    found = process({"Entrypoint": ["/e"], "Cmd": ["a", "b"], "WorkingDir": "/w", "User": "www:staff"}, GroupAdd=["5"])
    assert (found.args, found.cwd) == (["/e", "a", "b"], "/w")
    assert (found.user.username, found.user.additional_groups) == ("www:staff", ["5"])
    assert process({"Tty": True}, ConsoleSize=[24, 80]).console_size is not None
    assert process({"Tty": True}, ConsoleSize=[0, 0]).console_size is None
    assert process(OomScoreAdj=-500).oom_score_adj == -500
    for user in ("a\nb", "a\0", "u" * 600):
        with pytest.raises(InvalidArgument, match="invalid user"):
            check({"User": user})
    with pytest.raises(InvalidArgument, match=r"Invalid value 1001, range for oom score adj is \[-1000, 1000\]"):
        check(OomScoreAdj=1001)


def test_names_of_the_host() -> None:
    assert (made().spec.hostname, made({"Domainname": "d.e"}).spec.domainname) == ("boat", "d.e")
    assert made(UTSMode="host").spec.hostname == ""


def test_ulimits() -> None:
    found = process(Ulimits=[{"Name": "nofile", "Soft": 10, "Hard": 20}, {"Name": "CORE", "Soft": -1, "Hard": -1}])
    assert [(limit.type, limit.soft, limit.hard) for limit in found.rlimits] == [
        ("RLIMIT_NOFILE", 10, 20), ("RLIMIT_CORE", 2**64 - 1, 2**64 - 1),
    ]
    for bad in ({"Name": "foo"}, {"Name": "nofile", "Soft": 3, "Hard": 2}, {"Name": "nofile", "Soft": -2, "Hard": -2},
                {"Name": "nofile", "Soft": 1 << 70, "Hard": 1 << 70}):
        with pytest.raises(InvalidArgument):
            check(Ulimits=[bad])


def test_sysctls() -> None:
    allowed = {"net.ipv4.ip_forward": "1", "kernel.sem": "250 32000 32 128", "fs.mqueue.msg_max": "10",
               "net/core/somaxconn": "1024"}
    assert linux(Sysctls=allowed).sysctl["net.core.somaxconn"] == "1024"


@pytest.mark.parametrize(("name", "value", "options"), [
    ("kernel.core_pattern", "|/x", {}),
    ("vm.overcommit_memory", "1", {}),
    ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x", {}),  # CVE-2022-0811
    ("kernel.shm_rmid_forced", "1\nkernel.core_pattern", {}),
    ("net.ipv4/../../kernel/core_pattern", "x", {}),
    ("net.ipv4...kernel", "x", {}),
    ("net.", "x", {}),
    ("net.ipv4.ip_forward\0", "x", {}),
    ("net.ipv4.ip_forward", "1", {"NetworkMode": "host"}),
    ("net.ipv4.ip_forward", "1", {"NetworkMode": "container:a"}),
    ("kernel.msgmax", "1", {"IpcMode": "host"}),
    ("kernel.hostname", "x", {}),
])
def test_cve_2022_0811_sysctls_of_the_host_are_refused(name: str, value: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="sysctl"):
        check(Sysctls={name: value}, **options)


def test_security_options() -> None:
    assert process(SecurityOpt=["no-new-privileges"]).no_new_privileges
    assert process(SecurityOpt=["no-new-privileges:true"]).no_new_privileges
    assert not process(SecurityOpt=["no-new-privileges=false"]).no_new_privileges
    assert made(SecurityOpt=["seccomp=unconfined", "label=disable"]).policy is None
    assert made(SecurityOpt=["seccomp=builtin"]).policy is not None
    assert "ro" not in mounts(SecurityOpt=["writable-cgroups=true"])["/sys/fs/cgroup"].options
    assert check(SecurityOpt=["apparmor=x"]) == ["This host has no AppArmor. Profile 'x' discarded."]
    with pytest.raises(Unsupported, match="AppArmor"):
        check(facts=replace(FACTS, apparmor=True), SecurityOpt=["apparmor=x"])
    assert check(facts=replace(FACTS, apparmor=True), SecurityOpt=["apparmor=unconfined"]) == []
    for bad in ("magic", "magic=1", "no-new-privileges=maybe"):
        with pytest.raises(InvalidArgument, match="invalid --security-opt"):
            check(SecurityOpt=[bad])


def test_devices() -> None:
    entry = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/hole", "CgroupPermissions": "r"}
    found = linux(Devices=[entry], DeviceCgroupRules=["c 42:* rwm", "a *:* m"])
    assert [(device.path, device.type, device.major, device.minor) for device in found.devices] == [
        ("/dev/hole", "c", 1, 3),
    ]
    rules = [(rule.type, rule.major, rule.minor, rule.access) for rule in found.resources.devices]
    assert rules[0] == ("a", None, None, "rwm")
    assert not found.resources.devices[0].allow
    assert rules[-3:] == [("c", 1, 3, "r"), ("c", 42, None, "rwm"), ("a", None, None, "m")]
    for rule in ("c 1:3", "x 1:3 r", "c 1:3 rwx", "c 1:3 r\n", "c 9999999999:1 r"):
        with pytest.raises(InvalidArgument, match="invalid device cgroup rule format"):
            check(DeviceCgroupRules=[rule])
    for path in ("/dev/there-is-none", "/etc/passwd"):
        with pytest.raises(InvalidArgument, match="error gathering device information"):
            made(Devices=[{"PathOnHost": path, "PathInContainer": "/dev/x"}])


def test_resources() -> None:
    found = resources.make({
        "Memory": 64 << 20, "MemorySwap": 128 << 20, "MemoryReservation": 32 << 20, "MemorySwappiness": 10,
        "OomKillDisable": True, "NanoCpus": 1_500_000_000, "CpuShares": 1, "CpusetCpus": "0-1", "CpusetMems": "0",
        "PidsLimit": 100, "BlkioWeight": 300,
    })
    memory, cpu = found.memory, found.cpu
    assert memory is not None and cpu is not None and found.pids is not None and found.block_io is not None
    assert (memory.limit, memory.swap, memory.reservation) == (64 << 20, 128 << 20, 32 << 20)
    assert (memory.swappiness, memory.disable_oom_killer) == (10, True)
    assert (cpu.period, cpu.quota, cpu.shares, cpu.cpus, cpu.mems) == (100_000, 150_000, 2, "0-1", "0")
    assert (found.pids.limit, found.block_io.weight) == (100, 300)
    nothing = resources.make({"Memory": 0, "MemorySwap": 0, "CpuShares": 0, "PidsLimit": None, "CpusetCpus": ""})
    assert (nothing.memory, nothing.cpu, nothing.pids, nothing.block_io) == (None, None, None, None)
    lifted = resources.make({"PidsLimit": -1, "MemorySwap": -1})
    assert lifted.pids is not None and lifted.memory is not None
    assert (lifted.pids.limit, lifted.memory.swap) == (-1, -1)
    with pytest.raises(InvalidArgument, match="not a block device"):
        resources.make({"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]})


def test_what_the_host_lacks_is_said() -> None:
    poor = replace(FACTS, features=Features(swap_limit=False, cpuset=False, pids_limit=False, cpu_cfs=False))
    said = check(facts=poor, Memory=1 << 30, CpusetCpus="0", CpusetMems="0", PidsLimit=5)
    assert len(said) == 3
    assert any("Memory limited without swap" in words for words in said)
    assert check(Memory=1 << 30, CpusetCpus="0", PidsLimit=5) == []
    with pytest.raises(InvalidArgument, match="NanoCPUs can not be set"):
        check(facts=poor, NanoCpus=1)


def test_an_exec() -> None:
    config = {"Tty": True, "Env": ["A=b"], "User": "www", "WorkingDir": "/w"}
    host_config = {"SecurityOpt": ["no-new-privileges"]}
    found = spec.make_exec(CONFIG | config, host_config, {"Cmd": ["ls"], "Env": ["A=c"]}, FACTS)
    assert found.policy is not None
    assert (found.process.args, found.process.cwd, found.process.user.username) == (["ls"], "/w", "www")
    assert not found.process.terminal
    assert found.process.no_new_privileges
    assert "A=c" in found.process.env and "TERM=xterm" not in found.process.env
    root = {"Cmd": ["ls"], "User": "0", "Privileged": True, "Tty": True, "WorkingDir": "/"}
    found = spec.make_exec(CONFIG | config, host_config, root, FACTS, size=(24, 80))
    assert found.policy is None
    assert found.process.capabilities is not None
    assert "CAP_SYS_ADMIN" in found.process.capabilities.bounding
    assert found.process.console_size is not None
    assert found.process.console_size.width == 80
    with pytest.raises(InvalidArgument, match="No exec command specified"):
        spec.make_exec(CONFIG, {}, {"Cmd": []}, FACTS)
