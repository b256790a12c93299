"""NOTIFY_SOCKET, sd_notify(3): the program says that it is ready, the service manager hears it from the runtime."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, map_ids, one_clear_line

from sampan.linux import unix_socket

SAYS = """
#include <sys/socket.h>
#include <sys/un.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sockaddr_un to = {AF_UNIX};
    strcpy(to.sun_path, getenv("NOTIFY_SOCKET"));
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (int i = 1; i < count; i++)
        if (sendto(fd, words[i], strlen(words[i]), 0, (void *)&to, sizeof to) < 0)
            return 1;
    return 0;
}
"""


@pytest.fixture(scope="module")
def says(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that sends each of its arguments to NOTIFY_SOCKET."""
    made = tmp_path_factory.mktemp("says") / "says"
    subprocess.run(["cc", "-static", "-Os", "-x", "c", "-o", made, "-"], input=SAYS, text=True, check=True)
    return made


class Manager:
    """The service manager's end."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = path
        if path.startswith("@"):
            self.sock.bind("\0" + path[1:])
        else:
            directory = os.open(os.path.dirname(path), os.O_PATH)
            unix_socket.bind_at(self.sock, directory, os.path.basename(path))
            os.close(directory)
        self.sock.settimeout(PATIENCE)

    def hear(self) -> str:
        """The next message; a barrier's descriptor is closed at once, as by a manager that has come so far."""
        text, fds, _, _ = socket.recv_fds(self.sock, 4096, 1)
        for fd in fds:
            os.close(fd)
        return text.decode()


@pytest.fixture
def boat(tmp_path: Path, says: Path) -> Iterator[Dock]:
    with dock(tmp_path / "boat") as made:
        (made.root / "says").write_bytes(says.read_bytes())
        (made.root / "says").chmod(0o755)
        made.config["process"]["user"] = {"uid": 1000, "gid": 1000}
        yield made


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, boat: Dock) -> Iterator[Manager]:
    made = Manager(f"{tmp_path}/{'x' * 60}" if request.param == "path" else f"@sampan-test-{os.getpid()}")
    boat.env["NOTIFY_SOCKET"] = made.address
    yield made
    made.sock.close()


def begin(boat: Dock, *arguments: str) -> subprocess.Popen[bytes]:
    """A command that may take its time; its streams are not ours, what it leaves running has them too."""
    return subprocess.Popen(
        boat.command(*arguments), env={**os.environ, **boat.env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def run(boat: Dock, script: str, *options: str) -> subprocess.Popen[bytes]:
    boat.config["process"]["args"] = ["sh", "-c", script]
    boat.write()
    return begin(boat, "run", *options, "--bundle", str(boat.directory), boat.name)


READY = "/says X=1 'READY=1\nMAINPID=7' READY=1"


def test_start_returns_when_the_program_is_ready(boat: Dock, systemd: Manager) -> None:
    """And nothing of its own words is passed on."""
    os.mkfifo(boat.root / "go", 0o644)
    boat.create("sh", "-c", f"read x < /go; {READY}; exec sleep 1000")
    with begin(boat, "start", boat.name) as start:
        os.close(os.open(boat.root / "go", os.O_WRONLY))  # opens when the program runs
        assert systemd.hear() == f"READY=1\nMAINPID={boat.pid()}\n"
        assert systemd.hear() == "BARRIER=1"
        assert start.wait(PATIENCE) == 0
    assert boat.exec("sh", "-c", "echo $NOTIFY_SOCKET; echo > /run/notify/x").stdout == "\n"
    assert os.listdir(boat.states / boat.name / "notify") == ["notify.sock"]
    assert select.select([systemd.sock], [], [], 0)[0] == []
    boat.ok("delete", "--force", boat.name)
    assert os.listdir(boat.states) == []


def test_run_in_the_background(boat: Dock, systemd: Manager) -> None:
    map_ids(boat)
    with run(boat, f"{READY}; exec sleep 1000", "--detach") as command:
        heard = systemd.hear()
        assert (heard, systemd.hear()) == (f"READY=1\nMAINPID={boat.pid()}\n", "BARRIER=1")
        assert command.wait(PATIENCE) == 0


def test_run_in_the_foreground_is_what_the_manager_watches(boat: Dock, systemd: Manager) -> None:
    with run(boat, f"{READY}; exit 5") as command:
        assert systemd.hear() == f"READY=1\nMAINPID={command.pid}\n"
        assert command.wait(PATIENCE) == 5
    assert os.listdir(boat.states) == []


def test_a_program_that_ends_without_a_word_keeps_nobody_waiting(boat: Dock, systemd: Manager) -> None:
    with run(boat, "/says READY=0 STATUS=x", "--detach") as command:
        assert command.wait(PATIENCE) == 0
    assert select.select([systemd.sock], [], [], 0)[0] == []


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_manager_that_is_gone_is_no_reason_to_end(boat: Dock, tmp_path: Path, detach: list[str]) -> None:
    boat.env["NOTIFY_SOCKET"] = f"{tmp_path}/gone"
    done = boat.run("sh", "-c", f"{READY}; exit 0", options=detach)
    assert done.returncode == 0
    assert f"cannot tell {tmp_path}/gone that the container is ready: No such file" in one_clear_line(done.stderr)


def test_a_second_start_leaves_the_first_ones_socket_alone(boat: Dock, systemd: Manager) -> None:
    os.mkfifo(boat.root / "go", 0o644)
    boat.create("sh", "-c", f"read x < /go; {READY}; exec sleep 1000")
    with begin(boat, "start", boat.name) as start:
        go = os.open(boat.root / "go", os.O_WRONLY)
        refused = boat.call("start", boat.name)
        assert refused.returncode == 1 and "already running" in refused.stderr
        os.close(go)
        assert systemd.hear().startswith("READY=1") and systemd.hear() == "BARRIER=1"
        assert start.wait(PATIENCE) == 0


def test_what_a_container_leaves_in_its_directory_is_deleted(boat: Dock, systemd: Manager, tmp_path: Path) -> None:
    """It is read-only inside; who may mount could make it writable. Links are not followed."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("")
    boat.create("true")
    left = boat.states / boat.name / "notify/left"
    (left / "deep").mkdir(parents=True)
    (left / "link").symlink_to(tmp_path / "kept")
    boat.ok("delete", "--force", boat.name)
    assert os.listdir(boat.states) == [] and (tmp_path / "kept/file").exists()
