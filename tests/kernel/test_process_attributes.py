"""The process's attributes on the real kernel: applied in a forked child, which then looks at itself."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.forked import in_child

from sampan.linux import capability, keyring, process, procfs, seccomp, seccomp_compiler, security
from sampan.oci import runtime as oci
from sampan.runtime import attributes, users
from sampan.runtime.identity import SetPersonality, SetRlimits, final_sets
from sampan.runtime.kernel import SetHostname, SetOomScore, SetSysctl
from sampan.runtime.keyrings import JoinSessionKeyring
from sampan.runtime.labels import SetAppArmorProfile
from sampan.runtime.operation import Operation, Stage
from sampan.runtime.scheduling import SetCpuAffinity, SetIOPriority, SetMemoryPolicy, SetScheduler

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x40000000,
)


def after(*operations: Operation, look: Callable[[], object], unshare: int = 0) -> object:
    """What `look` says in a child that applied the operations."""

    def act() -> object:
        if unshare and _libc.unshare(unshare) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        stage = Stage()
        for operation in operations:
            operation.apply(stage)
        seen = look()
        return [seen, stage.warnings] if stage.warnings else seen

    return in_child(act)


@pytest.mark.parametrize(("wanted", "policy", "nice", "priority"), [
    (oci.Scheduler(policy="SCHED_OTHER", nice=5), os.SCHED_OTHER, 5, 0),
    (oci.Scheduler(policy="SCHED_BATCH", nice=7), os.SCHED_BATCH, 7, 0),
    (oci.Scheduler(policy="SCHED_IDLE"), os.SCHED_IDLE, 0, 0),
    (oci.Scheduler(policy="SCHED_FIFO", priority=3), os.SCHED_FIFO, 0, 3),
    (oci.Scheduler(policy="SCHED_RR", priority=99, flags=["SCHED_FLAG_RESET_ON_FORK"]),
     os.SCHED_RR | os.SCHED_RESET_ON_FORK, 0, 99),
])
def test_scheduler(wanted: oci.Scheduler, policy: int, nice: int, priority: int) -> None:
    def look() -> object:
        return [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getparam(0).sched_priority]

    seen = after(SetScheduler(wanted), look=look)
    if seen == "PermissionError":
        pytest.skip("the cgroup has no real-time share")
    assert seen == [policy, nice, priority]


def test_scheduler_deadline() -> None:
    wanted = oci.Scheduler(policy="SCHED_DEADLINE", runtime=1_000_000, deadline=10_000_000, period=10_000_000)
    seen = after(SetScheduler(wanted), look=lambda: os.sched_getscheduler(0))
    assert seen in (6, "PermissionError")  # admission is denied inside a cpuset (sched-deadline.rst)


@pytest.mark.parametrize(("io_class", "number"), [
    ("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3),
])
def test_io_priority(io_class: str, number: int) -> None:
    priority = 0 if number == 3 else 5
    seen = after(
        SetIOPriority(oci.IOPriority(io_class=io_class, priority=priority)),
        look=lambda: _libc.syscall(ctypes.c_long(252), 1, 0),
    )
    assert seen == number << 13 | priority


def test_cpu_affinity() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    assert after(SetCpuAffinity(str(allowed[-1])), look=lambda: sorted(os.sched_getaffinity(0))) == [allowed[-1]]
    again = after(
        SetCpuAffinity(str(allowed[0])), SetCpuAffinity(), look=lambda: set(allowed) <= os.sched_getaffinity(0)
    )
    assert again is True
    assert after(SetCpuAffinity("8000"), look=lambda: 0) == "OSError"


@pytest.mark.parametrize(("policy", "mode"), [
    (oci.MemoryPolicy(mode="MPOL_DEFAULT"), 0),
    (oci.MemoryPolicy(mode="MPOL_PREFERRED", nodes="0"), 1),
    (oci.MemoryPolicy(mode="MPOL_BIND", nodes="0", flags=["MPOL_F_STATIC_NODES"]), 2 | 1 << 15),
    (oci.MemoryPolicy(mode="MPOL_INTERLEAVE", nodes="0"), 3),
    (oci.MemoryPolicy(mode="MPOL_LOCAL"), 4),
])
def test_memory_policy(policy: oci.MemoryPolicy, mode: int) -> None:
    def look() -> object:
        found = ctypes.c_int(-1)
        assert _libc.syscall(ctypes.c_long(239), ctypes.byref(found), None, 0, None, 0) == 0
        return found.value

    assert after(SetMemoryPolicy(policy), look=look) == mode


def test_personality() -> None:
    assert after(SetPersonality("LINUX32"), look=lambda: os.uname().machine) == "i686"
    assert after(SetPersonality("LINUX"), look=lambda: os.uname().machine) == os.uname().machine


def test_rlimits_of_all_names() -> None:
    assert sorted(process.RLIMITS.values()) == list(range(16))
    for name, number in process.RLIMITS.items():

        def look(number: int = number) -> object:
            return resource.getrlimit(number)

        before = look()
        assert isinstance(before, tuple)
        hard = before[1] % (1 << 64)
        seen = after(SetRlimits((oci.Rlimit(type=name, soft=hard, hard=hard),)), look=look)
        assert seen == [before[1], before[1]], name


def test_rlimits() -> None:
    limits = (oci.Rlimit(type="RLIMIT_NOFILE", soft=100, hard=200), oci.Rlimit(type="RLIMIT_CORE", soft=0, hard=0))
    look = lambda: [resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)]  # noqa: E731
    assert after(SetRlimits(limits), look=look) == [[100, 200], [0, 0]]


def test_an_rlimit_that_the_host_refuses_is_a_warning() -> None:
    lower = SetRlimits((oci.Rlimit(type="RLIMIT_CORE", soft=0, hard=0),))
    higher = SetRlimits((oci.Rlimit(type="RLIMIT_CORE", soft=1, hard=2**64 - 1),))

    def act() -> object:
        capability.drop_bounding(0, capability.last_cap())
        capability.set_sets(0, 0, 0)
        stage = Stage()
        lower.apply(stage)
        higher.apply(stage)
        return stage.warnings

    warnings = in_child(act)
    assert isinstance(warnings, list) and "RLIMIT_CORE 1:18446744073709551615 was not set" in warnings[0]


def test_oom_score() -> None:
    assert after(SetOomScore(500), look=lambda: Path("/proc/self/oom_score_adj").read_text()) == "500\n"


def test_an_oom_score_that_the_host_refuses_is_a_warning() -> None:
    def act() -> object:
        Path("/proc/self/oom_score_adj").write_text("10")
        capability.set_sets(0, 0, 0)
        stage = Stage()
        SetOomScore(-900).apply(stage)
        return stage.warnings

    warnings = in_child(act)
    assert isinstance(warnings, list) and "oom_score_adj -900 was not set" in warnings[0]


def test_host_names() -> None:
    assert after(
        SetHostname("ship", "harbour"), unshare=CLONE_NEWUTS,
        look=lambda: [os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()],
    ) == ["ship", "harbour\n"]


@pytest.mark.parametrize(("key", "file"), [
    ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"), ("kernel/msgmax", "kernel/msgmax"),
    ("fs.mqueue.queues_max", "fs/mqueue/queues_max"), ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
    ("net/ipv4/conf/lo/forwarding", "net/ipv4/conf/lo/forwarding"),
])
def test_sysctls_without_a_proc_of_the_container(key: str, file: str) -> None:
    before = Path("/proc/sys", file).read_text()
    value = "1" if file != "kernel/msgmax" else "9000"
    assert after(
        SetSysctl(key, value), unshare=CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS,
        look=lambda: Path("/proc/sys", file).read_text(),
    ) == f"{value}\n"
    assert Path("/proc/sys", file).read_text() == before


@pytest.mark.parametrize("shared", [False, True])
def test_a_session_keyring_of_the_containers_own(shared: bool) -> None:
    container = f"keyring-test-{os.getpid()}-{shared}"  # the kernel takes its time to forget one

    def look() -> object:
        mine = keyring.session()
        again = keyring.join_session(f"_ses.{container}")

        def exec_joins_it() -> object:
            keyring.join_session(f"another-{container}")
            left = keyring.session() != mine
            JoinSessionKeyring(container, shared).apply(Stage())
            return left and keyring.session() == mine

        keys = Path("/proc/keys").read_text().splitlines()
        names = [line.split()[8] for line in keys if line.startswith(f"{mine:08x}")]
        return [names, again == mine, in_child(exec_joins_it)]

    seen = after(JoinSessionKeyring(container, shared), look=look)
    if isinstance(seen, list) and len(seen) == 2:
        pytest.skip(f"this host allows no keyrings: {seen[1]}")
    assert seen == [[f"_ses.{container}:"], True, True]


def test_a_host_that_forbids_keyrings_is_a_warning() -> None:
    policy = oci.Seccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=[oci.SyscallRule(names=["keyctl"], action="SCMP_ACT_ERRNO", errno_ret=38)],
    )
    bpf = seccomp_compiler.Compiler().compile(policy)

    def act() -> object:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load(bpf)
        stage = Stage()
        JoinSessionKeyring("keyring-test").apply(stage)
        return stage.warnings

    assert in_child(act) == ["the container got no session keyring of its own: keyctl: Function not implemented"]


def test_the_whole_way_to_the_program() -> None:
    wanted = oci.Process(
        user=oci.User(uid=1000, gid=1001, additional_gids=[5]), no_new_privileges=True,
        rlimits=[oci.Rlimit(type="RLIMIT_NOFILE", soft=64, hard=64)],
        scheduler=oci.Scheduler(policy="SCHED_BATCH", nice=3),
        io_priority=oci.IOPriority(io_class="IOPRIO_CLASS_BE", priority=6),
    )
    linux = oci.Linux(personality=oci.Personality(domain="LINUX32"), memory_policy=oci.MemoryPolicy(mode="MPOL_LOCAL"))
    kill = capability.to_mask(["CAP_KILL"])
    sets = capability.Sets(kill, kill, kill, kill, kill)

    def act() -> object:
        root = os.open("/", os.O_PATH)
        stage = Stage()
        identity = users.by_ids(wanted.user, root)
        for operation in attributes.process_operations(wanted, identity, sets, capability.last_cap(), linux=linux):
            operation.apply(stage)
        ours = capability.read()
        status = Path("/proc/self/status").read_text()
        return [
            os.getresuid(), os.getresgid(), sorted(os.getgroups()), ours.effective, ours.bounding, ours.ambient,
            "NoNewPrivs:\t1" in status, os.uname().machine, os.sched_getscheduler(0), stage.warnings,
        ]

    assert in_child(act) == [[1000] * 3, [1001] * 3, [5], kill, kill, kill, True, "i686", os.SCHED_BATCH, []]


def test_in_a_user_namespace_of_its_own_a_process_can_have_everything() -> None:
    names = list(capability.NAMES[: capability.last_cap() + 1])
    sets, warnings = final_sets(
        oci.Capabilities(bounding=names, effective=names, permitted=names), own_user_namespace=True
    )
    assert sets is not None and warnings == []
    assert sets.permitted == sets.bounding == (2 << capability.last_cap()) - 1


@pytest.mark.skipif(not security.apparmor_enabled(), reason="this host has no AppArmor")
def test_an_apparmor_profile() -> None:
    """`unconfined` is the one profile that every host has; one that none has must not be passed over."""
    current = "attr/apparmor/current" if Path("/proc/self/attr/apparmor").exists() else "attr/current"

    def look() -> object:
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        pid = os.posix_spawn("/bin/cat", ["cat", f"/proc/self/{current}"], {})
        os.waitpid(pid, 0)
        return os.read(reader, 100).decode().strip()

    assert after(SetAppArmorProfile("unconfined"), look=look) == "unconfined"
    assert after(SetAppArmorProfile("sampan-no-such-profile"), look=look) in ("FileNotFoundError", "")


def test_procfs_is_told_from_what_only_looks_like_it(tmp_path: Path) -> None:
    root = procfs.private()
    try:
        procfs.verify_root(root)
        assert procfs.read_own(root, "comm")
    finally:
        os.close(root)
    for path in (tmp_path, Path("/proc/self")):
        fd = os.open(path, os.O_PATH)
        with pytest.raises(OSError, match="not the root of a procfs"):
            procfs.verify_root(fd)
        os.close(fd)


def test_what_the_kernel_says_of_a_process() -> None:
    """Its name may look like the end of itself; one that has ended but is not reaped is a zombie of ours."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        process.set_name(") S 1 (x) R 2")
        os.write(write_end, b"1")
        signal.pause()
        os._exit(0)
    os.read(read_end, 1)
    pidfd = os.pidfd_open(pid)
    running = process.stat(pid)
    assert running.parent == os.getpid() and running.start_time >= process.stat(os.getpid()).start_time
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert process.stat(pid) == process.Stat("Z", os.getpid(), running.start_time)
    os.waitpid(pid, 0)
    for fd in (pidfd, read_end, write_end):
        os.close(fd)
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        process.stat(pid)
