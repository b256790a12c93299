"""A seccomp filter that asks an agent: how the listener gets there, and what the agent can answer."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.seccomp_fixture import Agent

from sampan.errors import InvalidArgument, StartFailed
from sampan.jobs import channel as wire
from sampan.linux import process, seccomp, seccomp_compiler
from sampan.oci.runtime import Seccomp, SyscallRule
from sampan.runtime import seccomp_agent
from sampan.runtime.operation import Stage
from sampan.runtime.seccomp import check_policy, load

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")

FLAG_CONTINUE = 1
NR_SENDMSG, NR_GETPPID = 46, 110
STATE = {"ociVersion": "1.2.0", "id": "boat", "status": "creating", "pid": 7, "bundle": "/b"}

_libc = ctypes.CDLL(None, use_errno=True)


def policy(*names: str, **more: object) -> Seccomp:
    rule = SyscallRule(names=list(names), action="SCMP_ACT_NOTIFY")
    return Seccomp(
        default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_X86_64"], syscalls=[rule],
        listener_path="/run/agent.sock", **more,  # type: ignore[arg-type]
    )


def init_stage(wanted: Seccomp, then: Callable[[socket.socket], int]) -> tuple[int, int, socket.socket]:
    """A child under the filter: (pid, pidfd, our end of its socket). `then` gives its exit status."""
    filter = seccomp.Filter(seccomp_compiler.Compiler().compile(wanted), seccomp.flags_of(wanted))
    ours, theirs = wire.pair()
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            ours.close()
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            load(filter, wanted, theirs.fileno()).apply(Stage())
            status = then(theirs)
        finally:
            os._exit(status)
    theirs.close()
    return pid, os.pidfd_open(pid), ours


def hand_over(pid: int, pidfd: int, sync: socket.socket, wanted: Seccomp, path: Path, with_rights: bool = True) -> None:
    """The runtime's part."""
    received = wire.receive(sync)
    assert received is not None and len(received[1]) == with_rights
    wanted.listener_path, wanted.listener_metadata = str(path), "who asks"
    seccomp_agent.hand_over(sync, received[0]["seccomp"], received[1], pidfd, pid, wanted, STATE)


@pytest.mark.parametrize("directory", ["short", "long" * 40])
def test_an_agent_answers_for_the_kernel(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir()
    os.symlink(tmp_path / directory, tmp_path / "here")
    agent = Agent(str(tmp_path / "here/agent.sock"))
    wanted = policy("getppid")
    pid, pidfd, sync = init_stage(wanted, lambda sync: int(_libc.getppid() == 424242))
    try:
        hand_over(pid, pidfd, sync, wanted, tmp_path / directory / "agent.sock")
        assert agent.accept() == {
            "ociVersion": "1.2.0", "fds": ["seccompFd"], "pid": pid, "metadata": "who asks", "state": STATE,
        }
        assert agent.answer(value=424242) == (pid, NR_GETPPID)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    finally:
        agent.close()
        sync.close()
        os.close(pidfd)


def test_a_filter_that_asks_about_the_calls_of_the_hand_over_itself(tmp_path: Path) -> None:
    """sendmsg, recvmsg, close, mmap, futex: caught from the first moment, answered as soon as the agent is there."""
    agent = Agent(str(tmp_path / "agent.sock"))
    caught = policy("sendmsg", "sendto", "recvmsg", "close", "getppid", "mmap", "munmap", "brk", "futex")

    def then(sync: socket.socket) -> int:
        wire.send(sync, {"ready": True})
        return 9

    pid, pidfd, sync = init_stage(caught, then)
    try:
        hand_over(pid, pidfd, sync, caught, tmp_path / "agent.sock", with_rights=False)
        agent.accept()
        seen = set()
        while NR_SENDMSG not in seen:
            seen.add(agent.answer(flags=FLAG_CONTINUE)[1])
        poll = select.poll()
        poll.register(sync, select.POLLIN)
        poll.register(agent.fd, select.POLLIN)
        while not (events := dict(poll.poll(10_000))).get(sync.fileno()):
            assert events, "neither the message nor a call"
            agent.answer(flags=FLAG_CONTINUE)
        assert wire.receive(sync) == ({"ready": True}, [])
        agent.close()  # what it still wants to call is ENOSYS now
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    finally:
        agent.close()
        sync.close()
        os.close(pidfd)


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    wanted = policy("getppid")
    pid, pidfd, sync = init_stage(wanted, lambda sync: 0)
    with pytest.raises(StartFailed, match=r"failed to connect with seccomp agent at /.*/none\.sock: No such file"):
        hand_over(pid, pidfd, sync, wanted, tmp_path / "none.sock")
    sync.close()  # the runtime gives up: the init stage, which waits, ends
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    os.close(pidfd)


def test_an_agent_may_close_as_soon_as_it_has_read(tmp_path: Path) -> None:
    """As runc's example does: one read, then it closes. Many times, because it must not matter who is faster."""
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        pid = os.fork()
        if pid == 0:
            for _ in range(300):
                connection, _ = listening.accept()
                _, fds, _, _ = socket.recv_fds(connection, 1 << 16, 1)
                connection.close()
                os.close(fds[0])
            os._exit(0)
        for _ in range(300):
            seccomp_agent.send(path, 0, 1, "", {})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_without_an_agent_a_caught_call_is_enosys(tmp_path: Path) -> None:
    """The kernel's rule for a listener that is closed (seccomp_unotify(2)): nobody is left hanging."""
    agent = Agent(str(tmp_path / "agent.sock"))

    def then(sync: socket.socket) -> int:
        sync.recv(10)  # the agent is gone
        return ctypes.get_errno() if _libc.syscall(ctypes.c_long(NR_GETPPID)) == -1 else 0

    wanted = policy("getppid")
    pid, pidfd, sync = init_stage(wanted, then)
    hand_over(pid, pidfd, sync, wanted, tmp_path / "agent.sock")
    agent.accept()
    agent.close()
    sync.send(b"gone")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.ENOSYS
    sync.close()
    os.close(pidfd)


@pytest.mark.parametrize("wanted", [
    Seccomp(default_action="SCMP_ACT_NOTIFY", listener_path="/a"),
    policy("write"),
    Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=policy("getppid").syscalls),
    Seccomp(default_action="SCMP_ACT_ALLOW", listener_metadata="x"),
])
def test_policies_that_could_never_be_handed_over(wanted: Seccomp) -> None:
    with pytest.raises(InvalidArgument):
        check_policy(wanted)


@pytest.mark.parametrize("flag", ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
def test_flags_beside_a_listener(tmp_path: Path, flag: str) -> None:
    if flag not in seccomp.supported_flags():
        pytest.skip("this kernel does not know it")
    agent = Agent(str(tmp_path / "agent.sock"))
    wanted = policy("getppid", flags=[flag])
    pid, pidfd, sync = init_stage(wanted, lambda sync: int(_libc.getppid() == 5))
    hand_over(pid, pidfd, sync, wanted, tmp_path / "agent.sock")
    agent.accept()
    assert agent.answer(value=5)[1] == NR_GETPPID
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    agent.close()
    sync.close()
    os.close(pidfd)
