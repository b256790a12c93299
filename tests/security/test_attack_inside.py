"""Attacks of a container's processes on the commands that others call on it: kill, exec, delete."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended, one_clear_line

from sampan.linux.inotify import Inotify
from sampan.runtime.lifecycle.records import Registry

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


def test_a_stopped_init_stage_stops_nobody_else(boat: Dock) -> None:
    """Whoever shares its pid namespace may stop it. Each `state` leaves a connection that it does not take."""
    boat.create("sleep", "1000")
    pid = boat.pid()
    os.kill(pid, signal.SIGSTOP)
    for _ in range(20):  # more than it lets wait (listen(2))
        assert boat.call("state", boat.name, timeout=10).returncode == 0
    done = boat.call("start", boat.name, timeout=10)
    assert done.returncode == 1 and "takes no calls" in one_clear_line(done.stderr)
    os.kill(pid, signal.SIGCONT)
    assert boat.state()["status"] == "created"
    boat.ok("delete", "--force", boat.name, timeout=10)


def test_a_start_that_waits_for_process_1_does_not_keep_delete_from_killing_it(boat: Dock) -> None:
    boat.create("sleep", "1000")
    pid = boat.pid()
    with Registry(str(boat.states)).open(boat.name) as entry:
        entry.lock()  # as a start does
        delete = subprocess.Popen(boat.command("delete", "--force", boat.name), stderr=subprocess.PIPE)
        ended(pid)
    assert delete.communicate(timeout=PATIENCE)[1] == b"" and delete.returncode == 0
    assert os.listdir(boat.states) == []


def test_cve_2025_52565_an_exec_opens_no_ptmx_that_is_none(boat: Dock) -> None:
    """A container without a devpts has made its own; what it leads to would be opened by one who may open anything."""
    boat.config["mounts"] = [entry for entry in boat.config["mounts"] if entry["destination"] != "/dev/pts"]
    pid = boat.launch("sleep", "1000")
    boat.ok("exec", boat.name, "sh", "-c", "mkdir -p /dev/pts; mkfifo /fifo; ln -s /fifo /dev/pts/ptmx")
    fifo = os.open(f"/proc/{pid}/root/fifo", os.O_PATH)
    opened = Inotify()
    opened.watch(fifo, 0x20)  # IN_OPEN
    master, peer = os.openpty()
    try:
        done = boat.exec("true", options=["--tty"], stdin=peer, stdout=peer, stderr=subprocess.PIPE)
        assert done.returncode == 255 and "a mount of type devpts" in one_clear_line(done.stderr)
        with pytest.raises(BlockingIOError):
            os.read(opened.fd, 4096)
    finally:
        for fd in (master, peer, fifo):
            os.close(fd)
        opened.close()


def test_what_a_container_makes_in_the_runtimes_directory_can_be_deleted(boat: Dock) -> None:
    """`notify` is mounted inside, read-only; root there may make it writable. Any depth, and no link is followed."""
    boat.create("sleep", "1000")
    place = boat.states / boat.name / "notify"
    place.mkdir()
    (place / "link").symlink_to(boat.root)
    here = os.open(place, os.O_RDONLY)
    for _ in range(1500):  # deeper than Python calls itself
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    boat.ok("delete", "--force", boat.name)
    assert os.listdir(boat.states) == [] and (boat.root / "bin").is_dir()
