"""`run` and `exec` on a terminal: what is typed, shown, resized, interrupted, and put back afterwards."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


class Screen:
    """A terminal with a command on it, as a shell in a window would run it: in a session of its own."""

    def __init__(self, command: list[str], size: tuple[int, int] = (24, 80), **streams: Any) -> None:
        self.master, peer = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.master)
        self.peer = peer
        self.seen = b""

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(peer, termios.TIOCSCTTY, 0)

        streams = {"stdin": peer, "stdout": peer, "stderr": peer, **streams}
        self.process = subprocess.Popen(command, preexec_fn=take_terminal, env=dict(os.environ), **streams)

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, wanted: str) -> str:
        """Read until `wanted` was shown; returns what was shown before and with it."""
        deadline = time.monotonic() + PATIENCE
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while wanted.encode() not in self.seen:
            assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"{wanted!r} never came: {self.seen!r}"
            self.seen += os.read(self.master, 4096)
        shown, _, self.seen = self.seen.partition(wanted.encode())
        return shown.decode() + wanted

    def end(self) -> int:
        """The exit code; the terminal must be as it was before."""
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self.master) == self.before
        self.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.peer):
            if fd >= 0:
                os.close(fd)
        self.master = self.peer = -1

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(boat: Dock, *args: str, **how: Any) -> Screen:
    boat.config["process"] |= {"args": list(args), "terminal": True}
    boat.write()
    return Screen(boat.command("run", "--bundle", str(boat.directory), boat.name), **how)


def waiting(what: str, name: str) -> list[str]:
    """A program that says "ready", then waits for a signal and does something on it."""
    return ["sh", "-c", f"trap '{what}' {name}; echo ready; while :; do sleep 1000 & wait; done"]


def test_a_shell_on_a_terminal(boat: Dock) -> None:
    with run(boat, "sh", size=(31, 97)) as screen:
        screen.type("stty size; tty\n")
        assert "31 97\r\n" in screen.until("/dev/pts/0\r\n")
        screen.type("exit 5\n")
        screen.until("exit 5")
        assert screen.end() == 5
    assert os.listdir(boat.states) == []


def test_keys_go_to_the_program_not_to_the_runtime(boat: Dock) -> None:
    with run(boat, *waiting("echo caught; exit 3", "INT")) as screen:
        screen.until("ready\r\n")
        screen.type("\x03")
        screen.until("caught\r\n")
        assert screen.end() == 3


def test_the_size_is_there_before_the_program_looks(boat: Dock) -> None:
    """Not a moment after, as a change: a program on the way to its first screen would see a terminal without room."""
    look = "trap 'echo changed' WINCH; stty size; echo end"
    with run(boat, "sh", "-c", look, size=(31, 97)) as screen:
        assert screen.until("end\r\n") == "31 97\r\nend\r\n"
        assert screen.end() == 0
    boat.config["process"]["terminal"] = False
    boat.launch("sleep", "1000")
    with Screen(boat.command("exec", "-t", boat.name, "sh", "-c", look), size=(20, 70)) as screen:
        assert screen.until("end\r\n") == "20 70\r\nend\r\n"
        assert screen.end() == 0


def test_a_resized_window_is_resized_inside(boat: Dock) -> None:
    with run(boat, *waiting("stty size; exit 0", "WINCH")) as screen:
        screen.until("ready\r\n")
        screen.resize(40, 120)
        screen.until("40 120\r\n")
        assert screen.end() == 0


def test_the_end_of_typing_is_for_the_program_to_see(boat: Dock) -> None:
    with run(boat, "cat") as screen:
        screen.type("line\n")
        screen.until("line\r\nline\r\n")
        screen.type("\x04")
        assert screen.end() == 0


def test_all_that_was_written_is_shown(boat: Dock) -> None:
    with run(boat, "sh", "-c", "i=0; while [ $i -lt 5000 ]; do echo line-$i; i=$((i+1)); done") as screen:
        shown = screen.until("line-4999\r\n")
        assert shown.count("line-") == 5000
        assert screen.end() == 0


def test_a_killed_program_leaves_the_terminal_as_it_was(boat: Dock) -> None:
    with run(boat, "sh", "-c", "echo ready; sleep 1000") as screen:
        screen.until("ready\r\n")
        boat.ok("kill", boat.name, "KILL")
        assert screen.end() == 137


def test_a_program_that_cannot_start_leaves_the_terminal_as_it_was(boat: Dock) -> None:
    with run(boat, "nonexistent") as screen:
        screen.until("executable file not found")
        assert screen.end() == 1


def test_a_window_that_is_closed_hangs_up_the_program(boat: Dock) -> None:
    with run(boat, *waiting("exit 8", "HUP")) as screen:
        screen.until("ready\r\n")
        os.close(screen.peer)
        os.close(screen.master)
        screen.master = screen.peer = -1
        assert screen.process.wait(PATIENCE) == 8


def test_output_may_be_a_file(boat: Dock) -> None:
    with (boat.directory / "out").open("w+b") as out:
        with run(boat, "sh", "-c", "echo one; echo two", stdout=out) as screen:
            assert screen.end() == 0
        out.seek(0)
        assert out.read() == b"one\r\ntwo\r\n"


def test_without_a_terminal_one_cannot_be_given(boat: Dock) -> None:
    boat.config["process"]["terminal"] = True
    done = boat.run("true", start_new_session=True)
    assert done.returncode == 1 and "/dev/tty" in done.stderr
    assert os.listdir(boat.states) == []


def test_exec_on_a_terminal(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    with Screen(boat.command("exec", "-t", boat.name, "sh"), size=(20, 70)) as screen:
        screen.type("stty size\n")
        screen.until("20 70\r\n")
        screen.resize(21, 71)
        screen.type("echo $((6*7)); stty size; exit 4\n")
        assert "42" in screen.until("21 71\r\n")
        assert screen.end() == 4


def test_a_users_terminal_is_not_the_containers(boat: Dock) -> None:
    """Without a terminal of its own the program gets pipes: the user's one stays outside."""
    boat.config["process"]["args"] = ["sh", "-c", "for fd in 0 1 2; do [ -t $fd ] && echo tty; done; cat; echo end >&2"]
    boat.write()
    with Screen(boat.command("run", "--bundle", str(boat.directory), boat.name)) as screen:
        screen.type("hello\n\x04")
        shown = screen.until("end")
        assert "hello" in shown and "tty" not in shown
        assert screen.end() == 0


def test_ctrl_c_without_a_terminal_of_its_own_reaches_the_program(boat: Dock) -> None:
    boat.config["process"]["args"] = waiting("exit 6", "INT")
    boat.write()
    with Screen(boat.command("run", "--bundle", str(boat.directory), boat.name)) as screen:
        screen.until("ready")
        screen.type("\x03")
        assert screen.end() == 6


def test_a_stopped_runtime_is_no_stopped_container(boat: Dock) -> None:
    boat.config["process"]["args"] = ["sh", "-c", "echo ready; sleep 1000"]
    boat.write()
    with Screen(boat.command("run", "--bundle", str(boat.directory), boat.name)) as screen:
        screen.until("ready")
        screen.process.send_signal(signal.SIGTSTP)
        assert boat.state()["status"] == "running"
        boat.ok("kill", boat.name, "KILL")
        assert screen.end() == 137
