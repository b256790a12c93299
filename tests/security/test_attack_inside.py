"""Attacks of a container's processes on the commands that others call on it: kill, exec, delete."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


@pytest.fixture
def ready(boat: Dock) -> Iterator[int]:
    """A fifo in the root, open for reading: the program says there how far it is."""
    os.mkfifo(boat.root / "ready")
    fd = os.open(boat.root / "ready", os.O_RDONLY | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def await_word(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(1000 * PATIENCE) and os.read(fd, 4096)


@pytest.mark.parametrize("word", ["TERM", "KILL"])
def test_more_processes_than_the_runtime_may_have_descriptors(boat: Dock, ready: int, word: str) -> None:
    """All of them get the signal, and nobody stays frozen: a pidfd for each at once would be EMFILE."""
    spawn = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; echo > /ready; trap 'exit 7' TERM; wait"
    pid = boat.launch("sh", "-c", spawn)
    await_word(ready)
    assert len(boat.ok("ps", "--format", "json", boat.name).split(",")) == 201
    boat.program = ("prlimit", "--nofile=128:128", *boat.program)
    boat.ok("kill", "--all", boat.name, word)
    ended(pid)
    assert boat.state()["status"] == "stopped"
