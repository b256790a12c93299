"""Policies compiled by the real libseccomp and loaded in forked children."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.engine.spec.seccomp import default_policy
from sampan.errors import InvalidArgument
from sampan.linux import process, seccomp, seccomp_answer, seccomp_cache, seccomp_compiler
from sampan.oci.runtime import Seccomp, SeccompArg, SyscallRule

_libc = ctypes.CDLL(None, use_errno=True)
ALLOW = "SCMP_ACT_ALLOW"
NR_GETPPID = 110
NR_FUTURE = 4000

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")


@pytest.fixture(scope="module")
def compiler() -> seccomp_compiler.Compiler:
    return seccomp_compiler.Compiler()


def outcome(bpf: bytes, action: Callable[[], int]) -> int:
    """What a child under the filter returns, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(bpf)
            status = action()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call(number: int, *arguments: int) -> Callable[[], int]:
    """An action that makes one raw system call; returns its errno."""

    def make() -> int:
        result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
        return ctypes.get_errno() if result == -1 else 0

    return make


def one_rule(action: str, *arguments: SeccompArg, errno_ret: int | None = None) -> Seccomp:
    rule = SyscallRule(names=["getppid"], action=action, errno_ret=errno_ret, args=list(arguments))
    return Seccomp(default_action=ALLOW, architectures=["SCMP_ARCH_X86_64"], syscalls=[rule])


def where(index: int, op: str, value: int, value_two: int = 0) -> SeccompArg:
    return SeccompArg(index=index, op=op, value=value, value_two=value_two)


@pytest.mark.parametrize(("action", "result"), [
    ("SCMP_ACT_ERRNO", errno.EPERM),
    ("SCMP_ACT_LOG", 0),
    ("SCMP_ACT_ALLOW", 0),
    ("SCMP_ACT_TRACE", errno.ENOSYS),  # nobody traces
    ("SCMP_ACT_TRAP", -signal.SIGSYS),
    ("SCMP_ACT_KILL", -signal.SIGSYS),
    ("SCMP_ACT_KILL_THREAD", -signal.SIGSYS),
    ("SCMP_ACT_KILL_PROCESS", -signal.SIGSYS),
])
def test_actions(compiler: seccomp_compiler.Compiler, action: str, result: int) -> None:
    assert outcome(compiler.compile(one_rule(action)), call(NR_GETPPID)) == result


def test_an_errno_of_ones_own(compiler: seccomp_compiler.Compiler) -> None:
    bpf = compiler.compile(one_rule("SCMP_ACT_ERRNO", errno_ret=errno.EXDEV))
    assert outcome(bpf, call(NR_GETPPID)) == errno.EXDEV


@pytest.mark.parametrize(("op", "value", "value_two", "refused", "passed"), [
    ("SCMP_CMP_EQ", 7, 0, 7, 8),
    ("SCMP_CMP_NE", 7, 0, 8, 7),
    ("SCMP_CMP_LT", 7, 0, 6, 7),
    ("SCMP_CMP_LE", 7, 0, 7, 8),
    ("SCMP_CMP_GT", 7, 0, 8, 7),
    ("SCMP_CMP_GE", 7, 0, 7, 6),
    ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, 0x1F, 0x2F),
    ("SCMP_CMP_EQ", 1 << 40, 0, 1 << 40, 0),
])
def test_conditions(
    compiler: seccomp_compiler.Compiler, op: str, value: int, value_two: int, refused: int, passed: int
) -> None:
    bpf = compiler.compile(one_rule("SCMP_ACT_ERRNO", where(0, op, value, value_two)))
    assert outcome(bpf, call(NR_GETPPID, refused)) == errno.EPERM
    assert outcome(bpf, call(NR_GETPPID, passed)) == 0


def test_two_conditions_on_one_argument_are_either_or(compiler: seccomp_compiler.Compiler) -> None:
    bpf = compiler.compile(one_rule("SCMP_ACT_ERRNO", where(0, "SCMP_CMP_EQ", 1), where(0, "SCMP_CMP_EQ", 3)))
    assert [outcome(bpf, call(NR_GETPPID, value)) for value in (1, 2, 3)] == [errno.EPERM, 0, errno.EPERM]
    bpf = compiler.compile(one_rule("SCMP_ACT_ERRNO", where(0, "SCMP_CMP_EQ", 1), where(1, "SCMP_CMP_EQ", 3)))
    assert [outcome(bpf, call(NR_GETPPID, 1, value)) for value in (2, 3)] == [0, errno.EPERM]


@pytest.mark.parametrize("policy", [
    Seccomp(default_action="SCMP_ACT_DANCE"),
    Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=-1),
    Seccomp(default_action=ALLOW, architectures=["SCMP_ARCH_PDP11"]),
    Seccomp(default_action=ALLOW, flags=["SECCOMP_FILTER_FLAG_NONE"]),
    one_rule("SCMP_ACT_ERRNO", where(6, "SCMP_CMP_EQ", 1)),
    one_rule("SCMP_ACT_ERRNO", where(0, "=", 1)),
    one_rule("SCMP_ACT_ERRNO", where(0, "SCMP_CMP_EQ", 1 << 64)),
])
def test_what_is_unknown_is_refused(compiler: seccomp_compiler.Compiler, policy: Seccomp) -> None:
    with pytest.raises(InvalidArgument):
        seccomp_compiler.check(policy)


def test_the_native_architecture_is_always_there(compiler: seccomp_compiler.Compiler) -> None:
    """A policy for 32-bit programs alone kills no others: what libseccomp starts with stays, as with runc and crun."""
    policy = one_rule("SCMP_ACT_ERRNO", errno_ret=77)
    policy.architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert outcome(compiler.compile(policy), call(NR_GETPPID)) == 77
    policy.default_action, policy.syscalls[0].action = "SCMP_ACT_ERRNO", ALLOW
    policy.syscalls[0].errno_ret = None
    policy.syscalls[0].names = ["getppid", "exit_group"]
    bpf = compiler.compile(policy)
    assert outcome(bpf, call(NR_GETPPID)) == 0
    assert outcome(bpf, call(NR_FUTURE)) == errno.ENOSYS


def test_unknown_calls_are_skipped_and_newer_ones_have_no_such_call(compiler: seccomp_compiler.Compiler) -> None:
    allowed = ["exit_group", "exit", "write", "getppid", "not_yet_invented", "statx"]
    policy = Seccomp(
        default_action="SCMP_ACT_ERRNO", architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        syscalls=[SyscallRule(names=allowed, action=ALLOW)],
    )
    bpf = compiler.compile(policy)
    assert outcome(bpf, call(NR_GETPPID)) == 0
    assert outcome(bpf, call(39)) == errno.EPERM  # getpid
    assert outcome(bpf, call(NR_FUTURE)) == errno.ENOSYS
    assert outcome(bpf, call(0x40000000 | NR_FUTURE)) == errno.ENOSYS


@pytest.fixture(scope="module")
def docker_like(compiler: seccomp_compiler.Compiler) -> bytes:
    return compiler.compile(default_policy(frozenset({"CAP_CHOWN", "CAP_SYS_CHROOT"}), "x86_64", (6, 1)))


@pytest.mark.parametrize(("name", "number", "arguments", "expected"), [
    ("getppid", 110, (), 0),
    ("unshare", 272, (0x10000000,), errno.EPERM),
    ("mount", 165, (), errno.EPERM),
    ("keyctl", 250, (), errno.EPERM),
    ("bpf", 321, (), errno.EPERM),
    ("kexec_load", 246, (), errno.EPERM),
    ("clone3", 435, (), errno.ENOSYS),
    ("clone with CLONE_NEWUSER", 56, (0x10000000,), errno.EPERM),
    ("personality PER_LINUX", 135, (0xFFFFFFFF,), 0),
    ("personality ADDR_NO_RANDOMIZE", 135, (0x40000,), errno.EPERM),
    ("chroot, allowed by its capability", 161, (0,), errno.EFAULT),
    ("io_uring_setup", 425, (1, 0), errno.EPERM),
    ("userfaultfd", 323, (1,), errno.EPERM),
    ("a call of the future", NR_FUTURE, (), errno.ENOSYS),
])
def test_the_default_policy(
    docker_like: bytes, name: str, number: int, arguments: tuple[int, ...], expected: int
) -> None:
    assert outcome(docker_like, call(number, *arguments)) == expected


@pytest.mark.parametrize(("family", "allowed"), [
    (socket.AF_UNIX, True), (socket.AF_INET, True), (socket.AF_NETLINK, True), (socket.AF_PACKET, True),
    (socket.AF_VSOCK, False), (socket.AF_ALG, False),
])
def test_the_default_policy_on_sockets(docker_like: bytes, family: int, allowed: bool) -> None:
    def make() -> int:
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError as error:
            return error.errno or 0
        return 0

    assert (outcome(docker_like, make) != errno.EPERM) == allowed


def test_programs_run_under_the_default_policy(docker_like: bytes) -> None:
    def run() -> int:
        os.execv("/bin/sh", ["sh", "-c", "(echo a | cat) >/dev/null && exit 7"])

    assert outcome(docker_like, run) == 7


def test_the_cache_compiles_once_and_keeps_to_itself(tmp_path: Path, compiler: seccomp_compiler.Compiler) -> None:
    directory = tmp_path / "seccomp"
    policy = one_rule("SCMP_ACT_ERRNO")
    first = seccomp_cache.Cache(str(directory)).filter(policy)
    assert first == seccomp.Filter(compiler.compile(policy))
    files = list(directory.iterdir())
    assert len(files) == 1
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    written = files[0].stat().st_mtime_ns
    cache = seccomp_cache.Cache(str(directory))
    assert cache.filter(policy) == first
    assert cache.path(policy) == str(files[0])
    assert files[0].stat().st_mtime_ns == written
    cache.filter(one_rule("SCMP_ACT_TRAP"))
    assert len(list(directory.iterdir())) == 2


def test_the_cache_does_not_grow_with_the_agents_of_containers(tmp_path: Path) -> None:
    cache = seccomp_cache.Cache(str(tmp_path))
    for number in range(3):
        policy = one_rule("SCMP_ACT_NOTIFY")
        policy.listener_path, policy.listener_metadata = f"/run/agent-{number}.sock", f"container {number}"
        assert cache.filter(policy).bpf
    cache.filter(one_rule("SCMP_ACT_NOTIFY"))
    assert len(os.listdir(tmp_path)) == 1


def test_the_cache_keeps_the_flags(tmp_path: Path) -> None:
    policy = one_rule("SCMP_ACT_ERRNO")
    policy.flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    for _ in range(2):
        assert seccomp_cache.Cache(str(tmp_path)).filter(policy).flags == 6


@pytest.mark.parametrize("torn", [b"", b"\0" * 8, b"\0" * 4096])
def test_a_torn_file_is_no_filter(tmp_path: Path, torn: bytes) -> None:
    policy = one_rule("SCMP_ACT_ERRNO")
    path = Path(seccomp_cache.Cache(str(tmp_path)).path(policy))
    whole = path.read_bytes()
    for content in (torn, whole[:-8], whole[:-1] + b"?", whole + whole[-8:]):
        path.write_bytes(content)
        with pytest.raises(OSError, match="not a whole compiled seccomp filter"):
            seccomp.read(str(path))
        assert seccomp_cache.Cache(str(tmp_path)).path(policy) == str(path)
        assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_many_at_once_share_the_cache(tmp_path: Path) -> None:
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            status = 255
            try:
                status = len(seccomp_cache.Cache(str(tmp_path)).filter(one_rule("SCMP_ACT_ERRNO")).bpf) // 8
            finally:
                os._exit(status)
        children.append(pid)
    sizes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
    assert len(sizes) == 1 and 255 not in sizes
    assert [path.suffix for path in tmp_path.iterdir()] == [".bpf"]


def test_flags_are_loaded_with_the_filter(compiler: seccomp_compiler.Compiler) -> None:
    bpf = compiler.compile(one_rule("SCMP_ACT_ERRNO"))
    assert set(seccomp.supported_flags()) <= set(seccomp.FLAGS)
    for name in seccomp.supported_flags():
        policy = one_rule("SCMP_ACT_ERRNO")
        policy.flags = [name]

        def load(flags: int = seccomp.flags_of(policy)) -> int:
            seccomp.load(bpf, flags)
            return 7

        assert outcome(bpf, load) == 7


def test_errno_belongs_to_actions_that_give_one() -> None:
    with pytest.raises(InvalidArgument, match="SCMP_ACT_KILL takes no errnoRet"):
        seccomp_compiler.check(one_rule("SCMP_ACT_KILL", errno_ret=1))


def test_a_killing_default_lets_programs_fall_back(compiler: seccomp_compiler.Compiler) -> None:
    policy = Seccomp(
        default_action="SCMP_ACT_KILL_PROCESS", architectures=["SCMP_ARCH_X86_64"],
        syscalls=[SyscallRule(names=["exit_group", "exit", "getppid", "statx"], action=ALLOW)],
    )
    bpf = compiler.compile(policy)
    assert outcome(bpf, call(NR_FUTURE)) == errno.ENOSYS
    assert outcome(bpf, call(39)) == -signal.SIGSYS


def test_a_filter_cannot_be_loaded_without_the_right_to(docker_like: bytes) -> None:
    def load() -> int:
        try:
            seccomp.load(b"\x06\x00\x00\x00\x00\x00\xff\x7f" * 1 + b"junk")
        except OSError as error:
            return error.errno or 0
        return 0

    assert outcome(docker_like, load) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        seccomp.load(b"\xff" * 8)


def test_what_a_filter_answers_is_known_before(docker_like: bytes, compiler: seccomp_compiler.Compiler) -> None:
    """By running it ourselves: the same as the kernel says."""
    new_user, plain = 0x10000000, 0x8000  # CLONE_NEWUSER, CLONE_PARENT
    assert seccomp_answer.allows(docker_like, "clone", plain)
    assert not seccomp_answer.allows(docker_like, "clone", new_user | plain)
    assert all(seccomp_answer.allows(docker_like, call) for call in ("sendmsg", "setsid", "exit_group"))
    assert not seccomp_answer.allows(docker_like, "a call that is not known here")
    for op, value, value_two in (
        ("EQ", 5, 0), ("NE", 5, 0), ("LT", 5, 0), ("LE", 5, 0), ("GT", 5, 0), ("GE", 5, 0), ("MASKED_EQ", 7, 5),
        ("EQ", 1 << 33, 0), ("GT", 1 << 33, 0),
    ):
        condition = where(1, f"SCMP_CMP_{op}", value, value_two)
        rule = SyscallRule(names=["ioctl"], action="SCMP_ACT_ERRNO", args=[condition])
        bpf = compiler.compile(Seccomp(default_action=ALLOW, architectures=["SCMP_ARCH_X86_64"], syscalls=[rule]))
        for argument in (0, 4, 5, 6, 13, (1 << 33) - 1, 1 << 33, (1 << 33) + 1):
            refused = outcome(bpf, call(16, 999, argument)) == errno.EPERM
            assert seccomp_answer.allows(bpf, "ioctl", 999, argument) != refused, (op, value, argument)
