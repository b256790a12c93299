"""What a spec may ask for about the process and the kernel: accepted, or one clear error, before anything is made."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, SampanError, StartFailed, Unsupported
from sampan.lean import structs
from sampan.linux import capability, number_list, security
from sampan.linux.seccomp import Filter
from sampan.oci import runtime as oci
from sampan.runtime import attributes, features, identity, namespaces, netdevices, options, sysctl, users
from sampan.runtime.scheduling import SetCpuAffinity

OWN = oci.Linux(namespaces=[oci.Namespace(type=kind) for kind in ("ipc", "network", "uts", "mount")])
NONE = oci.Linux()


def spec(linux: oci.Linux, process: oci.Process | None = None) -> oci.Spec:
    return oci.Spec(process=process or oci.Process(), linux=linux)


@pytest.mark.parametrize("key", [
    "kernel.msgmax", "kernel.shm_rmid_forced", "kernel/sem", "fs.mqueue.msg_max", "net.ipv4.ip_forward",
    "net/ipv4/conf/eth0.100/rp_filter", "kernel.domainname",
])
def test_sysctls_of_namespaces(key: str) -> None:
    sysctl.check({key: "1"}, OWN)
    with pytest.raises(InvalidArgument, match=r"not allowed in|not in a separate"):
        sysctl.check({key: "1"}, NONE)


@pytest.mark.parametrize("key", [
    "kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.hostname", "kernel.shm", "user.max_user_namespaces",
    "kernel.msgmax.x", "fs.mqueue", "network.x", "net",
])
def test_sysctls_of_the_host(key: str) -> None:
    with pytest.raises(InvalidArgument, match="sysctl"):
        sysctl.check({key: "1"}, OWN)


def test_a_joined_namespace_that_is_ours_is_the_hosts() -> None:
    linux = oci.Linux(namespaces=[oci.Namespace(type="network", path=f"/proc/{os.getpid()}/ns/net")])
    joined = namespaces.open_named(linux, {})
    try:
        shared = namespaces.ours(joined)
    finally:
        os.close(joined["network"])
    with pytest.raises(InvalidArgument, match="not allowed in host network namespace"):
        sysctl.check({"net.ipv4.ip_forward": "1"}, linux, shared)
    sysctl.check({"net.ipv4.ip_forward": "1"}, linux)


def test_the_hosts_name_is_not_a_containers_to_change() -> None:
    named = spec(oci.Linux(namespaces=[oci.Namespace(type="uts", path="/proc/self/ns/uts")]))
    named.hostname = "boat"
    attributes.check(named)
    with pytest.raises(InvalidArgument, match="without a private UTS namespace"):
        attributes.check(named, {"uts"})


@pytest.mark.parametrize(("path", "reason"), [
    ("/nowhere", "No such file or directory"), ("/proc/self/ns/ipc", "that is no network namespace"),
    ("/proc/self/ns/pid_for_children", "that is no network namespace"), ("/etc/passwd", "that is no network namespace"),
    ("/proc/self/ns", "that is no network namespace"), ("/dev/null", "that is no network namespace"),
])
def test_a_path_to_join_is_a_namespace_of_that_kind(path: str, reason: str) -> None:
    with pytest.raises(StartFailed, match=f"cannot join the network namespace {path}: .*{reason}"):
        namespaces.open_named(oci.Linux(namespaces=[oci.Namespace(type="network", path=path)]), {})


def test_a_fifo_to_join_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    linux = oci.Linux(namespaces=[
        oci.Namespace(type="uts", path="/proc/self/ns/uts"), oci.Namespace(type="ipc", path=str(tmp_path / "fifo")),
    ])
    with pytest.raises(StartFailed, match="that is no ipc namespace"):
        namespaces.open_named(linux, {})
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("key", "path"), [
    ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
    ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
])
def test_the_path_of_a_sysctl(key: str, path: str) -> None:
    assert sysctl.to_path(key) == path


@given(st.text(alphabet="ab./+-_@ \n\0", max_size=30))
def test_a_sysctls_path_stays_below_proc_sys(key: str) -> None:
    try:
        path = sysctl.to_path(key)
    except InvalidArgument:
        return
    assert os.path.normpath(f"/proc/sys/{path}") == f"/proc/sys/{path}"


@pytest.mark.parametrize(("wanted", "words"), [
    (oci.Process(rlimits=[oci.Rlimit(type="RLIMIT_FUN", soft=1, hard=1)]), "invalid rlimit type"),
    (oci.Process(rlimits=[oci.Rlimit(type="RLIMIT_CORE", soft=1, hard=1)] * 2), "more than once"),
    (oci.Process(rlimits=[oci.Rlimit(type="RLIMIT_CORE", soft=2, hard=1)]), "above the hard"),
    (oci.Process(rlimits=[oci.Rlimit(type="RLIMIT_CORE", soft=-1, hard=1)]), "above the hard"),
    (oci.Process(rlimits=[oci.Rlimit(type="RLIMIT_CORE", soft=0, hard=2**64)]), "64 bits"),
    (oci.Process(oom_score_adj=1001), "oomScoreAdj"),
    (oci.Process(scheduler=oci.Scheduler(policy="")), "scheduler policy"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_FUN")), "scheduler policy"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_OTHER", nice=20)), "scheduler.nice"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_OTHER", priority=1)), "scheduler.priority"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_FIFO", priority=1000)), "scheduler.priority"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_FIFO", runtime=1)), "SCHED_DEADLINE"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_DEADLINE", runtime=-1)), "2\\^63"),
    (oci.Process(scheduler=oci.Scheduler(policy="SCHED_OTHER", flags=["SCHED_FLAG_FUN"])), "unknown scheduler flag"),
    (oci.Process(io_priority=oci.IOPriority(io_class="", priority=1)), "ioPriority.class"),
    (oci.Process(io_priority=oci.IOPriority(io_class="IOPRIO_CLASS_BE", priority=8)), "ioPriority.priority"),
    (oci.Process(exec_cpu_affinity=oci.ExecCPUAffinity(initial="0-")), "list of numbers"),
    (oci.Process(exec_cpu_affinity=oci.ExecCPUAffinity(final="0-99999999999")), "list of numbers"),
    (oci.Process(exec_cpu_affinity=oci.ExecCPUAffinity(final="0-99999999")), "out of range"),
])
def test_processes_that_could_never_be(wanted: oci.Process, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        attributes.check_process(wanted)


@pytest.mark.parametrize(("linux", "words"), [
    (oci.Linux(personality=oci.Personality(domain="PDP11")), "personality domain"),
    (oci.Linux(personality=oci.Personality(domain="LINUX", flags=["FUN"])), "personality flags"),
    (oci.Linux(memory_policy=oci.MemoryPolicy(mode="MPOL_FUN")), "memoryPolicy.mode"),
    (oci.Linux(memory_policy=oci.MemoryPolicy(mode="MPOL_BIND")), "needs nodes"),
    (oci.Linux(memory_policy=oci.MemoryPolicy(mode="MPOL_LOCAL", nodes="0")), "takes no nodes"),
    (oci.Linux(memory_policy=oci.MemoryPolicy(mode="MPOL_BIND", nodes="0-4000000000")), "list of numbers"),
    (oci.Linux(memory_policy=oci.MemoryPolicy(mode="MPOL_BIND", nodes="0", flags=["MPOL_F"])), "memoryPolicy.flags"),
    (oci.Linux(intel_rdt=oci.IntelRdt(clos_id="a")), "intelRdt"),
    (oci.Linux(time_offsets={"boottime": {"nanosecs": 1_000_000_000}}), "nanosecs"),
    (oci.Linux(time_offsets={"boottime": {"secs": 1 << 63}}), "64 bits"),
    (oci.Linux(seccomp=oci.Seccomp(default_action="SCMP_ACT_NOTIFY")), "default action"),
])
def test_kernel_settings_that_could_never_be(linux: oci.Linux, words: str) -> None:
    with pytest.raises(SampanError, match=words):
        attributes.check(spec(linux))


def test_unknown_capabilities_are_a_warning() -> None:
    wanted = oci.Capabilities(bounding=["CAP_KILL", "CAP_FLY"], permitted=["CAP_FLY"])
    assert attributes.check(spec(oci.Linux(), oci.Process(capabilities=wanted))) == [
        "ignoring unknown or unavailable capabilities: CAP_FLY"
    ]
    assert identity.final_sets(wanted, own_user_namespace=True)[0] is not None


@pytest.mark.skipif(security.apparmor_enabled(), reason="this host has AppArmor")
def test_a_host_without_apparmor_says_so() -> None:
    with pytest.raises(Unsupported, match="apparmorProfile 'docker-default' is specified"):
        attributes.check_process(oci.Process(apparmor_profile="docker-default"))


@pytest.mark.skipif(security.selinux_enabled(), reason="this host has SELinux")
def test_a_host_without_selinux_says_so() -> None:
    with pytest.raises(Unsupported, match=r"selinuxLabel .* is specified in config, but selinux is disabled"):
        attributes.check_process(oci.Process(selinux_label="system_u:system_r:container_t:s0"))
    with pytest.raises(Unsupported, match=r"mountLabel .* is specified"):
        attributes.check(spec(oci.Linux(mount_label="system_u:object_r:container_file_t:s0")))


@pytest.mark.parametrize(("devices", "words"), [
    ({"": oci.NetDevice()}, "''"), ({"a" * 16: oci.NetDevice()}, "15 bytes"), ({"a/b": oci.NetDevice()}, "a/b"),
    ({"..": oci.NetDevice()}, "'..'"), ({"a b": oci.NetDevice()}, "a b"), ({"eth%d": oci.NetDevice()}, "%"),
    ({"a": oci.NetDevice(name="eth%s")}, "%"), ({"a": oci.NetDevice(name="%d%d")}, "%"),
    ({"a": oci.NetDevice(name="x"), "b": oci.NetDevice(name="x")}, "the same name"),
])
def test_names_no_network_device_can_have(devices: dict[str, oci.NetDevice], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        netdevices.check(devices, own_namespace=True)


def test_network_devices() -> None:
    netdevices.check({"eth0": oci.NetDevice(), "eth1": oci.NetDevice(name="net%d")}, own_namespace=True)


def test_the_order_of_a_process() -> None:
    """Limits and scheduling while it may, labels while it has a /proc, the filter where it cannot be refused."""
    kill = oci.Process(
        rlimits=[oci.Rlimit(type="RLIMIT_CORE", soft=0, hard=0)], scheduler=oci.Scheduler(policy="SCHED_IDLE"),
        apparmor_profile="a", selinux_label="b", no_new_privileges=True,
    )
    who = users.Identity(1, 1, (1,), "/")
    def names(wanted: oci.Process) -> list[str]:
        made = attributes.process_operations(wanted, who, None, 40, filter=Filter(b"x" * 8), user_namespace=9)
        return [type(operation).__name__ for operation in made]

    first = ["SetRlimits", "SetScheduler", "SetAppArmorProfile", "SetSelinuxLabel", "JoinNamespace"]
    assert names(kill) == [*first, "BecomeUser", "NoNewPrivileges", "LoadSeccomp"]
    kill.no_new_privileges = False
    assert names(kill) == [*first, "LoadSeccomp", "BecomeUser"]


def test_the_affinity_of_exec() -> None:
    wanted = oci.ExecCPUAffinity(initial="0", final="1")
    assert attributes.affinity_operations(wanted, "initial") == [SetCpuAffinity("0")]
    assert attributes.affinity_operations(wanted, "final") == [SetCpuAffinity("1")]
    assert attributes.affinity_operations(None, "initial") == []
    assert attributes.affinity_operations(None, "final") == [SetCpuAffinity("")]


@given(st.text(alphabet="0123456789,- ", max_size=20))
def test_number_lists(text: str) -> None:
    try:
        found = number_list.parse(text, 100, "it")
    except InvalidArgument:
        return
    assert found and min(found) >= 0 and max(found) < 100


def test_number_lists_as_the_kernel_writes_them() -> None:
    assert number_list.parse("0-2,7", 8, "it") == {0, 1, 2, 7}


def test_features_are_the_codes_own() -> None:
    found = features.document()
    hooks = oci.Hooks(**{name: [oci.Hook(path="/x")] for name in oci.Hooks.__struct_fields__})
    assert found["hooks"] == list(structs.to_builtins(hooks))
    for option in options.known():
        assert not options.parse([option]).data, option
    assert set(options.parse(["size=1"]).data) == {"size"}
    linux = found["linux"]
    assert isinstance(linux, dict)
    assert linux["memoryPolicy"]["modes"][0] == "MPOL_BIND"
    assert set(linux["seccomp"]["supportedFlags"]) <= set(linux["seccomp"]["knownFlags"])
    assert linux["cgroup"]["rdma"]  # limits_v1.apply_rdma, on v2 as well


@pytest.mark.parametrize("there", [True, False])
def test_the_systemd_driver_is_a_feature_where_jeepney_is(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not there:
        monkeypatch.setitem(sys.modules, "jeepney", None)
    linux = features.document()["linux"]
    assert isinstance(linux, dict)
    assert (linux["cgroup"]["systemd"], linux["cgroup"]["systemdUser"]) == (there, there)


@pytest.mark.parametrize(("wanted", "left", "told"), [
    (oci.Capabilities(bounding=["CAP_KILL"], effective=["CAP_KILL"]), "", "CAP_KILL"),
    (oci.Capabilities(inheritable=["CAP_KILL"]), "", "CAP_KILL"),
    (oci.Capabilities(bounding=["CAP_KILL"], permitted=["CAP_KILL"], ambient=["CAP_KILL"]), "permitted", ""),
    (oci.Capabilities(
        bounding=["CAP_KILL"], permitted=["CAP_KILL"], inheritable=["CAP_KILL"], ambient=["CAP_KILL", "CAP_CHOWN"],
    ), "ambient inheritable permitted", "CAP_CHOWN"),
    (oci.Capabilities(bounding=["CAP_KILL"], effective=["CAP_KILL"], permitted=["CAP_KILL"]), "effective permit", ""),
])
def test_sets_that_contradict_each_other_are_a_warning(wanted: oci.Capabilities, left: str, told: str) -> None:
    """config.md: what cannot be granted is logged as a warning, and no reason to fail."""
    sets, warnings = identity.final_sets(wanted, own_user_namespace=True)
    kill = capability.to_mask(["CAP_KILL"])
    for name in ("effective", "permitted", "inheritable", "ambient"):
        assert getattr(sets, name) == (kill if name[:6] in left else 0), name
    assert [told in warning for warning in warnings] == ([True] if told else [])
