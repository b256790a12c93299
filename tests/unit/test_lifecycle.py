"""The table of states, and PID 1's ears."""

from __future__ import annotations

import pytest

from sampan.engine import lifecycle
from sampan.engine.stop import hears
from sampan.errors import Conflict, NotModified


def test_a_start_of_what_runs_is_no_error() -> None:
    with pytest.raises(NotModified):
        lifecycle.check("start", lifecycle.RUNNING, "web", "id")
    for state in (lifecycle.CREATED, lifecycle.EXITED):
        lifecycle.check("start", state, "web", "id")
        with pytest.raises(NotModified):
            lifecycle.check("stop", state, "web", "id")


@pytest.mark.parametrize("state", lifecycle.STATES)
def test_each_state_refuses_with_a_sentence(state: str) -> None:
    for action in ("start", "stop", "kill", "pause", "unpause", "exec", "attach", "top", "resize", "remove", "update"):
        try:
            lifecycle.check(action, state, "web", "0123")
        except NotModified:
            continue
        except Conflict as error:
            assert "{" not in str(error) and ("web" in str(error) or "0123" in str(error) or "container" in str(error))


def test_what_may_follow() -> None:
    assert lifecycle.follows(lifecycle.CREATED, lifecycle.RUNNING)
    assert not lifecycle.follows(lifecycle.CREATED, lifecycle.PAUSED)
    assert not lifecycle.follows(lifecycle.REMOVING, lifecycle.RUNNING)
    assert not lifecycle.follows(lifecycle.RUNNING, lifecycle.REMOVING)


def status(caught: int = 0, ignored: int = 0, blocked: int = 0, nspid: str = "40\t1") -> dict[str, str]:
    def mask(number: int) -> str:
        return f"{1 << (number - 1) if number else 0:016x}"

    return {"SigBlk": mask(blocked), "SigIgn": mask(ignored), "SigCgt": mask(caught), "NSpid": nspid}


@pytest.mark.parametrize(("found", "heard"), [
    (status(), False),  # the kernel drops it: SIGNAL_UNKILLABLE
    (status(caught=15), True),
    (status(caught=2), False),
    (status(ignored=15), False),
    (status(blocked=15), True),  # it stays pending for sigwait: how --init listens
    (status(nspid="40"), True),  # in the host's pid namespace, the default action works
    (status(nspid="40", ignored=15), False),
    (status(nspid="40\t7"), True),  # joined another container's pid namespace
])
def test_does_pid_1_hear_the_signal(found: dict[str, str], heard: bool) -> None:
    assert hears(found, 15) is heard
