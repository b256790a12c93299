"""The same as an ordinary user, who may not take a descriptor out of a process that nobody may trace."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.kernel.test_runtime_rootless import USER, boat  # noqa: F401 - a fixture
from tests.runtime_fixture import Dock, one_clear_line
from tests.seccomp_fixture import Agent

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="becomes another user")
NR_UNAME = 63


def notify(boat: Dock, *names: str) -> Agent:  # noqa: F811
    path = boat.directory / "agent.sock"
    boat.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "listenerPath": str(path),
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
    }
    agent = Agent(str(path))
    os.chown(path, USER, USER)
    return agent


@pytest.mark.parametrize("new_privileges", [False, True])
def test_an_agent_answers_a_container_and_its_execs(boat: Dock, new_privileges: bool) -> None:  # noqa: F811
    boat.config["process"]["noNewPrivileges"] = not new_privileges
    agent = notify(boat, "uname", "getppid")
    env = {**os.environ, **boat.env}
    try:
        boat.create("sh", "-c", "uname -s; sleep 1000")
        starting = subprocess.Popen(boat.command("start", boat.name), env=env)
        agent.accept()
        while agent.answer(flags=1)[1] != NR_UNAME:  # the program runs
            pass
        assert starting.wait(60) == 0
        joining = subprocess.Popen(boat.command("exec", boat.name, "sh", "-c", "exit $PPID"), env=env)
        first, agent.fd = agent.fd, -1
        agent.accept()
        agent.serve(42)
        assert joining.wait(60) == 42
        os.close(first)
    finally:
        agent.close()


def test_a_filter_that_catches_sendmsg_is_one_clear_error(boat: Dock) -> None:  # noqa: F811
    agent = notify(boat, "sendmsg")
    try:
        done = boat.run("true")
    finally:
        agent.close()
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "cannot take the seccomp listener from the init stage" in one_clear_line(last)
