"""The docker command at a real terminal: prompt, Ctrl-C, window size, detach keys; attach, and signals passed on."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import closing

import pytest

from engine_fixture import Engine

pytestmark = pytest.mark.usefixtures("tidy")

PATIENCE = 20.0
TRAPS = "trap 'exit 3' TERM; trap 'echo int' INT; echo ready; while :; do sleep 1000 & wait; done"


class Terminal:
    """The docker command on a terminal of its own, and somebody who reads and types."""

    def __init__(self, engine: Engine, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.seen = ""
        self.process = subprocess.Popen(
            ["docker", *args], env={**engine.environment, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """What came up to and with `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            if not self._wait(deadline - time.monotonic()) or not self._read():
                raise AssertionError(f"{text!r} did not come, but {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def resize_until_noticed(self, say: str) -> None:
        """Change the size until `say` with "ROWS COLUMNS" comes: what changes before the command listens, it misses."""
        for rows in range(40, 240):
            self.resize(rows, 132)
            deadline = time.monotonic() + 0.2
            while self._wait(deadline - time.monotonic()):
                self._read()
            if say.format(f"{rows} 132") in self.seen:
                return
        raise AssertionError(f"a new size is never noticed: {self.seen!r}")

    def _wait(self, seconds: float) -> bool:
        return bool(select.select([self.master], [], [], max(0, seconds))[0])

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 4096)
        except OSError:  # EIO: the last one at the other side has closed it
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)

    def exit_code(self) -> int:
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


def test_a_shell(engine: Engine) -> None:
    with closing(Terminal(engine, "run", "--rm", "-it", "busybox", "sh", rows=33, columns=111)) as terminal:
        terminal.expect("/ # ")
        terminal.type("tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo a terminal\n")
        terminal.expect("/dev/pts/0\r\n33 111\r\na terminal\r\n/ # ")
        terminal.type("sh -c 'echo waiting; sleep 1000'\n")
        terminal.expect("waiting\r\n")  # not its echo: the shell takes the terminal out of raw mode after that
        terminal.type("\x03")
        terminal.expect("^C")
        terminal.type("echo $?\n")
        terminal.expect("130\r\n")
        terminal.type("exit 7\n")
        assert terminal.exit_code() == 7
    assert engine.docker("ps", "-aq").stdout == ""


def test_end_of_input_ends_the_shell(engine: Engine) -> None:
    with closing(Terminal(engine, "run", "--rm", "-it", "busybox", "sh")) as terminal:
        terminal.expect("/ # ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0


SIZES = "trap 'echo now $(stty size)' WINCH; stty size; while :; do sleep 1000 & wait; done"


def test_window_size_changes(engine: Engine) -> None:
    with closing(Terminal(engine, "run", "--rm", "-it", "--name", "sized", "busybox", "sh", "-c", SIZES)) as terminal:
        terminal.expect("24 80\r\n")
        terminal.resize_until_noticed("now {}\r\n")
        with closing(Terminal(engine, "exec", "-it", "sized", "sh", "-c", SIZES, rows=10, columns=20)) as other:
            other.expect("10 20\r\n")
            other.resize_until_noticed("now {}\r\n")


@pytest.mark.parametrize(("option", "keys"), [([], "\x10\x11"), (["--detach-keys", "ctrl-x,x"], "\x18x")])
def test_detach_and_attach_again(engine: Engine, option: list[str], keys: str) -> None:
    with closing(Terminal(engine, "run", "-it", "--name", "kept", *option, "busybox", "sh")) as terminal:
        terminal.expect("/ # ")
        terminal.type("echo one$((1))\n")
        terminal.expect("one1\r\n")
        terminal.type(keys)
        assert terminal.exit_code() == 0
    assert engine.inspect("kept")["State"]["Running"]
    with closing(Terminal(engine, "attach", *option, "kept")) as terminal:
        terminal.type("echo two$((2)); false\n")
        terminal.expect("two2\r\n")
        terminal.type(keys)
        assert terminal.exit_code() == 0 or "read escape sequence" in terminal.seen
    with closing(Terminal(engine, "attach", "kept")) as terminal:
        terminal.type("exit 5\n")
        assert terminal.exit_code() == 5
    assert engine.docker("logs", "kept").stdout.count("two2") == 1


def test_exec_on_a_terminal(engine: Engine) -> None:
    engine.run("sleep", "1000", name="host")
    with closing(Terminal(engine, "exec", "-it", "-e", "A=b", "-w", "/tmp", "-u", "sailor", "host", "sh")) as terminal:
        terminal.expect("$ ")
        terminal.type("stty size; pwd; echo $A; id -un\n")
        terminal.expect("24 80\r\n/tmp\r\nb\r\nsailor\r\n")
        terminal.type("exit 9\n")
        assert terminal.exit_code() == 9
    with closing(Terminal(engine, "exec", "-it", "host", "sh")) as terminal:
        terminal.expect("/ # ")
        terminal.type("\x10\x11")
        assert terminal.exit_code() == 0 or "read escape sequence" in terminal.seen
    assert engine.docker("top", "host", "-o", "comm").stdout.split() == ["COMMAND", "sleep", "sh"]


def test_start_attached_to_a_terminal(engine: Engine) -> None:
    engine.docker("create", "-it", "--name", "later", "busybox", "sh")
    for code in (4, 6):
        with closing(Terminal(engine, "start", "-ai", "later")) as terminal:
            terminal.expect("/ # ")
            terminal.type(f"exit {code}\n")
            assert terminal.exit_code() == code


def reader(engine: Engine, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["docker", *args], env=engine.environment, stdout=subprocess.PIPE, text=True)


def test_signals_go_to_the_container(engine: Engine) -> None:
    with reader(engine, "run", "--rm", "busybox", "sh", "-c", TRAPS) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == "int\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == 3


def test_signals_do_not_with_sig_proxy_false(engine: Engine) -> None:
    with reader(engine, "run", "--name", "calm", "--sig-proxy=false", "busybox", "sh", "-c", TRAPS) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGINT)
        assert engine.inspect("calm")["State"]["Running"]
        engine.docker("kill", "-s", "TERM", "calm")
        run.wait(PATIENCE)
    assert engine.state("calm")["ExitCode"] == 3
    assert engine.docker("logs", "calm").stdout == "ready\n"


def test_attach_without_terminal(engine: Engine) -> None:
    script = "while read line; do echo got $line; done; echo end >&2; exit 4"
    engine.docker("create", "-i", "--name", "echoes", "busybox", "sh", "-c", script)
    engine.docker("start", "echoes")
    done = engine.docker("attach", "echoes", input="a\nb\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("got a\ngot b\n", "end\n", 4)
    engine.docker("create", "-i", "--name", "again", "busybox", "sh", "-c", script)
    done = engine.docker("start", "-ai", "again", input="c\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("got c\n", "end\n", 4)


def test_two_clients_see_the_same(engine: Engine) -> None:
    with closing(Terminal(engine, "run", "-it", "--name", "shared", "busybox", "sh")) as one:
        one.expect("/ # ")
        with closing(Terminal(engine, "attach", "shared")) as two:
            two.type("\n")
            two.expect("/ # ")
            one.type("echo both$((3))\n")
            assert "both3" in one.expect("both3\r\n") and "both3" in two.expect("both3\r\n")
            two.type("exit 8\n")
            assert (one.exit_code(), two.exit_code()) == (8, 8)
