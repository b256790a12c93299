"""Without a running engine the command starts one, once, at the default places."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandbox
from sampan.cli.address import DEFAULT_SOCKET
from sampan.cli.autostart import LOG

pytestmark = pytest.mark.skipif(not sandbox.inside(), reason="uses the default places: needs a host of its own")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("SAMPAN_HOST", "DOCKER_HOST")}
COMMAND = [sys.executable, "-m", "sampan.cli"]
PATIENCE = 60.0


def engine_pid() -> int:
    """Who answers at the default socket; 0 for nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(DEFAULT_SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def end(pid: int) -> None:
    """Ends an engine that is nobody's child here, and waits until it and its helpers have gone."""
    fds = [os.pidfd_open(each) for each in (pid, *children(pid))]
    os.kill(pid, signal.SIGTERM)
    for fd in fds:
        assert select.select([fd], [], [], PATIENCE)[0]
        os.close(fd)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def no_engine() -> Iterator[None]:
    assert engine_pid() == 0, "an engine runs at the default place already"
    kept = [Path("/run/sampan"), Path("/var/lib/sampan")]
    assert not any(path.exists() for path in kept)
    yield
    if pid := engine_pid():
        end(pid)
    subprocess.run(["rm", "-rf", *map(str, kept)], check=True)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )


def test_two_commands_start_one_engine(no_engine: None) -> None:
    commands = [
        subprocess.Popen([*COMMAND, "version", "-f", "{{.Server.Version}}"], env=ENVIRONMENT, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [command.communicate(timeout=PATIENCE)[0] for command in commands]
    assert all(said) and len(set(said)) == 1
    pid = engine_pid()
    assert pid and run("ps", "-q").returncode == 0 and engine_pid() == pid
    assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PATH=" in environment and b"PYTEST_CURRENT_TEST" not in environment


def test_a_stale_socket_is_no_engine(no_engine: None) -> None:
    Path(DEFAULT_SOCKET).parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(DEFAULT_SOCKET)
    assert run("version").returncode == 0


def test_an_engine_that_cannot_start_says_why(no_engine: None) -> None:
    Path("/var/lib/sampan").write_text("in the way")
    done = run("ps")
    assert done.returncode == 1
    assert done.stderr.startswith("sampan: the engine could not start: ") and LOG in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert engine_pid() == 0


def test_another_address_is_not_started(no_engine: None) -> None:
    done = run("-H", "unix:///run/elsewhere.sock", "ps")
    assert done.returncode == 1 and "nobody listens there" in done.stderr
    assert engine_pid() == 0
