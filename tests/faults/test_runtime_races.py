"""Calls that meet on one container, and init stages that are killed before their time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended, one_clear_line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        made.config["process"]["args"] = ["sleep", "1000"]
        made.write()
        yield made


def at_once(boat: Dock, calls: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """All of them side by side: (exit code, stderr) of each, in order. A refusal is one clear line."""
    running = []
    for number, call in enumerate(calls):
        with (boat.directory / f"err-{number}").open("wb") as err:
            running.append(subprocess.Popen(
                boat.command(*call), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err
            ))
    found = []
    for number, process in enumerate(running):
        code = process.wait(PATIENCE)
        said = (boat.directory / f"err-{number}").read_text()
        killed = calls[number][0] == "exec" and (code, said) == (137, "")  # its program was: the code says so
        if code != 0 and not killed:
            one_clear_line(said)
        found.append((code, said))
    return found


def test_two_creates_of_one_id(boat: Dock) -> None:
    create = ["create", "--bundle", str(boat.directory), boat.name]
    for _ in range(5):
        found = at_once(boat, [create] * 4)
        assert sorted(code for code, _ in found) == [0, 1, 1, 1]
        assert all("already exists" in said for code, said in found if code), found
        assert boat.state()["status"] == "created"
        boat.ok("delete", "--force", boat.name)


def test_two_starts(boat: Dock) -> None:
    for _ in range(5):
        boat.create()
        found = at_once(boat, [["start", boat.name]] * 4)
        assert sorted(code for code, _ in found) == [0, 1, 1, 1], found
        assert boat.state()["status"] == "running"
        boat.ok("delete", "--force", boat.name)


def test_everything_at_once(boat: Dock) -> None:
    """Whoever is late is refused; the end is the same: no container, nothing left."""
    calls = [
        ["exec", boat.name, "true"], ["kill", boat.name, "KILL"], ["delete", "--force", boat.name],
        ["exec", boat.name, "true"], ["state", boat.name], ["pause", boat.name], ["delete", "--force", boat.name],
        ["resume", boat.name], ["ps", boat.name], ["start", boat.name], ["list"],
    ]
    for _ in range(6):
        boat.launch()
        found = at_once(boat, calls)
        assert [found[number][0] for number in (2, 6, 10)] == [0, 0, 0], found
        assert json.loads(boat.ok("list", "--format", "json") or "null") in (None, [])


def test_create_while_it_is_deleted(boat: Dock) -> None:
    create = ["create", "--bundle", str(boat.directory), boat.name]
    for _ in range(6):
        boat.create()
        at_once(boat, [["delete", "--force", boat.name], create, create])
        boat.ok("delete", "--force", boat.name)


def kill_init(boat: Dock) -> None:
    pid = boat.pid()
    os.kill(pid, signal.SIGKILL)
    ended(pid)


def test_init_is_killed_while_created(boat: Dock) -> None:
    boat.create()
    kill_init(boat)
    assert boat.state()["status"] == "stopped"
    for call in (("start", boat.name), ("exec", boat.name, "true"), ("kill", boat.name, "TERM"), ("pause", boat.name)):
        done = boat.call(*call)
        assert done.returncode != 0
        one_clear_line(done.stderr)
    boat.ok("delete", boat.name)


def test_init_is_killed_while_paused(boat: Dock) -> None:
    boat.launch()
    boat.ok("pause", boat.name)
    assert boat.state()["status"] == "paused"
    pid = boat.pid()
    boat.ok("kill", boat.name, "KILL")  # a frozen process dies when it is thawed: kill does that
    ended(pid)
    assert boat.state()["status"] == "stopped"
    boat.ok("delete", boat.name)


def test_a_paused_container_is_deleted_by_force(boat: Dock) -> None:
    boat.launch()
    boat.ok("pause", boat.name)
    boat.ok("delete", "--force", boat.name)
    assert boat.call("state", boat.name).returncode == 1


@pytest.mark.parametrize("hook", ["createRuntime", "startContainer"])
def test_init_is_killed_while_it_is_made(boat: Dock, hook: str) -> None:
    """By a hook, which knows where the others stand. The runtime says so, and takes back what it made."""
    kill = "read -r state; kill -9 $(echo \"$state\" | sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')"
    boat.config["hooks"] = {hook: [{"path": "/bin/sh", "args": ["sh", "-c", kill], "timeout": 20}]}
    if hook == "startContainer":
        boat.config["linux"]["namespaces"].remove({"type": "pid"})  # its own process 1 cannot be killed from inside
    done = boat.run("true")
    if hook == "startContainer":  # the runtime has let go: the container's process was killed, as any may be
        assert done.returncode in (1, 137)
    else:
        assert done.returncode == 1
        one_clear_line(done.stderr)
    assert [name for name in os.listdir(boat.states) if not name.startswith(".")] == []


def test_a_create_that_hangs_is_deleted(boat: Dock, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo here > {fifo}; exec sleep 1000"]}
    boat.config["hooks"] = {"createRuntime": [hook]}
    boat.write()
    with (tmp_path / "out").open("wb") as out:
        creating = subprocess.Popen(
            boat.command("create", "--bundle", str(boat.directory), boat.name),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )
    assert fifo.read_text() == "here\n"  # opening it waits for the hook
    assert boat.state()["status"] == "creating"
    boat.ok("delete", "--force", boat.name)
    creating.wait(PATIENCE)
    hooks = [pid for pid in os.listdir("/proc") if pid.isdigit() and "sleep\x001000" in command(int(pid))]
    for pid in hooks:
        os.kill(int(pid), signal.SIGKILL)
    assert boat.call("state", boat.name).returncode == 1


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
