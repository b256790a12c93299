"""SIGKILL for the runtime at any moment of create, run, start, exec and delete: `delete --force` cleans what it leaves.

The moments are spread over the time that the call takes undisturbed, and shaken, so that every run finds others.
SAMPAN_FAULTS says how many there are (8).
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, ended

import leaks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROUNDS = int(os.environ.get("SAMPAN_FAULTS", "8"))


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        made.config["process"]["args"] = ["sleep", "1000"]
        made.write()
        yield made


def spawn(boat: Dock, *arguments: str) -> subprocess.Popen[bytes]:
    """A call under way. Its streams are files: what it leaves running holds nobody's pipe."""
    with (boat.directory / "out").open("ab") as out:
        return subprocess.Popen(boat.command(*arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def seconds(boat: Dock, *arguments: str) -> float:
    began = time.monotonic()
    process = spawn(boat, *arguments)
    assert process.wait(60) == 0, (boat.directory / "out").read_text()
    return time.monotonic() - began


def kill_at(process: subprocess.Popen[bytes], moment: float) -> None:
    """SIGKILL `moment` seconds from now, unless it has ended before."""
    pidfd = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(1000 * moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(pidfd)


def moments(length: float) -> list[float]:
    """All over a call of that length, the ends too: a grid that is shaken."""
    return [length * (number + random.random()) / ROUNDS for number in range(ROUNDS)]


def assert_clean(boat: Dock, watch: leaks.Watch) -> None:
    """`delete --force` succeeds, twice; nothing is left, and the id is free."""
    for _ in range(2):
        done = boat.call("delete", "--force", boat.name)
        assert done.returncode == 0, done.stderr
    assert not boat.states.exists() or [name for name in os.listdir(boat.states) if not name.startswith(".")] == []
    left = {kind: things for kind, things in watch.left().items() if kind != "files"}
    assert not left, leaks.describe(left)


def test_create_is_killed(boat: Dock) -> None:
    create = ("create", "--bundle", str(boat.directory), boat.name)
    watch = leaks.Watch()
    length = seconds(boat, *create)
    assert_clean(boat, watch)
    for moment in moments(length):
        kill_at(spawn(boat, *create), moment)
        found = boat.call("state", boat.name)
        assert found.returncode == 1 or '"status": "c' in found.stdout or '"status": "stopped"' in found.stdout
        assert_clean(boat, watch)


def test_run_is_killed(boat: Dock) -> None:
    """Detached, so that it has an end. What was started before the kill goes on, and is deleted like any other."""
    run = ("run", "--detach", "--bundle", str(boat.directory), boat.name)
    watch = leaks.Watch()
    length = seconds(boat, *run)
    assert_clean(boat, watch)
    for moment in moments(length):
        kill_at(spawn(boat, *run), moment)
        assert_clean(boat, watch)


def test_a_foreground_run_is_killed(boat: Dock) -> None:
    run = ("run", "--bundle", str(boat.directory), boat.name)
    watch = leaks.Watch()
    length = seconds(boat, "run", "--detach", *run[1:])
    assert_clean(boat, watch)
    for moment in moments(2 * length)[::2]:
        kill_at(spawn(boat, *run), moment)
        assert_clean(boat, watch)


def test_start_is_killed(boat: Dock) -> None:
    create = ("create", "--bundle", str(boat.directory), boat.name)
    watch = leaks.Watch()
    seconds(boat, *create)
    length = seconds(boat, "start", boat.name)
    assert_clean(boat, watch)
    for moment in moments(length)[::2]:
        seconds(boat, *create)
        kill_at(spawn(boat, "start", boat.name), moment)
        state = boat.state()["status"]
        assert state in ("created", "running", "stopped")
        if state == "created":  # nobody has said {"start"} yet
            seconds(boat, "start", boat.name)
        assert_clean(boat, watch)


def test_exec_is_killed(boat: Dock) -> None:
    """The container does not mind: it runs, takes another exec, and ends."""
    watch = leaks.Watch()
    boat.launch()
    length = seconds(boat, "exec", boat.name, "true")
    for moment in moments(length):
        kill_at(spawn(boat, "exec", boat.name, "sleep", "1000"), moment)
        assert boat.state()["status"] == "running"
    assert boat.exec("echo", "well").stdout == "well\n"
    pid = boat.pid()
    boat.ok("kill", boat.name, "KILL")
    ended(pid)
    assert_clean(boat, watch)


def test_delete_is_killed(boat: Dock) -> None:
    create = ("create", "--bundle", str(boat.directory), boat.name)
    watch = leaks.Watch()
    seconds(boat, *create)
    length = seconds(boat, "delete", "--force", boat.name)
    for moment in moments(length):
        seconds(boat, *create)
        kill_at(spawn(boat, "delete", "--force", boat.name), moment)
        assert_clean(boat, watch)
