"""SIGKILL for engine, launcher, worker and shims, at rest and under load: nothing is lost, nothing leaks."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_fixture import PATIENCE, Engine, engine

SERVER = ("sh", "-c", "mkdir -p /www; echo ahoy > /www/index.html; exec httpd -f -p 80 -h /www")
TICKS = ("sh", "-c", "n=0; while :; do echo $((n+=1)); sleep 0.02; done")


@pytest.fixture
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


def shim_of(boat: Engine, id: str) -> int:
    """The parent of the container's process 1."""
    status = Path(f"/proc/{boat.state(id)['Pid']}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def gone(pid: int) -> None:
    """Wait for the end of a process."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE)[0], f"process {pid} lives on"
    finally:
        os.close(fd)


def kill_and_wait(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert select.select([fd], [], [], PATIENCE)[0]
    finally:
        os.close(fd)


def cgroups(boat: Engine) -> list[str]:
    return [
        str(path) for parent in Path("/sys/fs/cgroup").glob(f"*/{boat.cgroup_parent}") for path in parent.iterdir()
        if path.is_dir()
    ]


def answer_of(port: int) -> str:
    """What the server says; it may have to get to its listen(2) first."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
                return str(response.read().decode())
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                raise


def published(port: int) -> dict[str, Any]:
    return {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}


def test_containers_run_log_and_serve_without_an_engine(boat: Engine) -> None:
    web = boat.run(*SERVER, name="web", HostConfig=published(18123))
    ticks = boat.run(*TICKS, name="ticks")
    before = boat.inspect(web)
    log = Path(boat.inspect(ticks)["LogPath"])
    boat.kill()
    size = log.stat().st_size
    assert answer_of(18123) == "ahoy\n"
    deadline = time.monotonic() + PATIENCE
    while log.stat().st_size == size:
        assert time.monotonic() < deadline, "it does not log any more"
    boat.start()
    after = boat.inspect(web)
    for part in ("Pid", "StartedAt", "Status"):
        assert after["State"][part] == before["State"][part]
    assert after["NetworkSettings"] == before["NetworkSettings"]
    assert answer_of(18123) == "ahoy\n"
    other = boat.create(*SERVER, HostConfig=published(18123))
    assert "port is already allocated" in boat.request("POST", f"/containers/{other}/start")[1]["message"]
    assert boat.docker("exec", "web", "cat", "/www/index.html").stdout == "ahoy\n"
    boat.ask("POST", "/containers/web/stop?t=0")
    boat.ask("POST", f"/containers/{other}/start")
    assert answer_of(18123) == "ahoy\n"


def test_what_ended_meanwhile_is_taken_in(boat: Engine) -> None:
    kept = boat.run("sh", "-c", "trap 'exit 42' TERM; while :; do sleep 1000 & wait; done")
    removed = boat.run("sleep", "1000", HostConfig={"AutoRemove": True})
    again = boat.run("sleep", "1000", HostConfig={"RestartPolicy": {"Name": "always"}})
    pids = {id: boat.state(id)["Pid"] for id in (kept, removed, again)}
    boat.kill()
    os.kill(pids[kept], signal.SIGTERM)
    os.kill(pids[removed], signal.SIGKILL)
    os.kill(pids[again], signal.SIGKILL)
    for pid in pids.values():
        gone(pid)
    asked = time.time()
    boat.start()
    state = boat.state(kept)
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 42, "")
    assert state["FinishedAt"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(asked + 1))
    assert boat.request("GET", f"/containers/{removed}/json")[0] == 404
    deadline = time.monotonic() + PATIENCE
    while not boat.state(again)["Pid"]:
        assert time.monotonic() < deadline
    assert boat.state(again)["Pid"] != pids[again] and boat.inspect(again)["RestartCount"] == 1


def test_attached_client_and_exec_go_on(boat: Engine) -> None:
    id = boat.create("cat", OpenStdin=True, AttachStdin=True, StdinOnce=True)
    client = attach(boat, id, "stdin=1&stdout=1&stream=1")
    with client:
        boat.ask("POST", f"/containers/{id}/start")
        client.sendall(b"one\n")
        assert frame(client) == b"one\n"
        boat.kill()
        client.sendall(b"two\n")
        assert frame(client) == b"two\n"
        boat.start()
        client.sendall(b"three\n")
        assert frame(client) == b"three\n"
        client.shutdown(socket.SHUT_WR)
        assert boat.wait(id) == 0


def attach(boat: Engine, id: str, query: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(boat.socket)
    head = f"POST /v1.47/containers/{id}/attach?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp"
    client.sendall(head.encode() + b"\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    assert b" 101 " in answer.splitlines()[0]
    return client


def frame(client: socket.socket) -> bytes:
    """The payload of one stdcopy frame."""
    header = exactly(client, 8)
    return exactly(client, int.from_bytes(header[4:], "big"))


def exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece
        data += piece
    return data


def test_followed_log_goes_on(boat: Engine) -> None:
    id = boat.run(*TICKS)
    connection = boat.connect()
    try:
        connection.request("GET", f"/v1.47/containers/{id}/logs?stdout=1&follow=1&tail=0")
        answer = connection.getresponse()
        first = answer.read(16)
        boat.kill()
        assert answer.read(64) and first
        boat.start()
        boat.ask("POST", f"/containers/{id}/kill")
        while answer.read(65536):
            pass
    finally:
        connection.close()


def test_killed_shim(boat: Engine) -> None:
    id = boat.run(*SERVER, name="web", HostConfig=published(18124))
    pid = boat.state(id)["Pid"]
    kill_and_wait(shim_of(boat, id))
    assert boat.wait(id) == 137
    gone(pid)
    state = boat.state(id)
    assert (state["Status"], state["ExitCode"], state["KilledBy"]) == ("exited", 137, "shim lost")
    assert "shim was killed" in state["Error"]
    assert not cgroups(boat) and not list((boat.exec_root / "containers").iterdir())
    boat.ask("POST", f"/containers/{id}/start")  # its port is free again, too
    assert answer_of(18124) == "ahoy\n"


def test_shim_killed_while_no_engine_is_there(boat: Engine) -> None:
    id = boat.run("sleep", "1000")
    removed = boat.run("sleep", "1000", HostConfig={"AutoRemove": True})
    shims, pids = [shim_of(boat, it) for it in (id, removed)], [boat.state(it)["Pid"] for it in (id, removed)]
    boat.kill()
    for shim in shims:
        kill_and_wait(shim)
    boat.start()
    for pid in pids:
        gone(pid)
    state = boat.state(id)
    assert (state["Status"], state["ExitCode"]) == ("exited", 137) and "shim" in state["Error"]
    assert boat.request("GET", f"/containers/{removed}/json")[0] == 404
    assert not cgroups(boat) and not list((boat.exec_root / "containers").iterdir())


def test_killed_launcher_and_worker(boat: Engine) -> None:
    running = boat.run("sleep", "1000")
    for module in ("sampan.shim.launcher", "sampan.engine.worker"):
        kill_and_wait(boat.helper(module))
    id = boat.run("sh", "-c", "echo aye")
    assert boat.wait(id) == 0
    assert boat.docker("logs", id).stdout == "aye\n"
    assert boat.state(running)["Running"]
    assert boat.docker("exec", running, "echo", "aye").stdout == "aye\n"
    boat.ask("GET", f"/containers/{id}/changes")


def test_launcher_killed_under_load(boat: Engine) -> None:
    failures: list[Any] = []

    def one() -> None:
        for _ in range(5):
            id = boat.create("true")
            status, answer = boat.request("POST", f"/containers/{id}/start")
            if status == 204:
                boat.wait(id)
            else:
                failures.append(answer)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        kill_and_wait(boat.helper("sampan.shim.launcher"))
        boat.wait(boat.run("true"))
    for thread in threads:
        thread.join(PATIENCE)
    assert len(failures) <= 3  # only starts that were just being done by a process of the launcher's may fail
    states = [boat.state(it["Id"])["Status"] for it in boat.ask("GET", "/containers/json?all=1")]
    assert set(states) <= {"exited", "created"}
    assert not cgroups(boat)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2])
def test_engine_killed_under_load(boat: Engine, moment: float) -> None:
    """Whatever was going on: afterwards each container is one thing or another, and all can be removed."""
    steady = boat.run("sleep", "1000", name="steady")
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                host_config = {"AutoRemove": turn % 2 == 0}
                id = boat.create("sleep", "0.05", name=f"load-{number}-{turn}", HostConfig=host_config)
                boat.request("POST", f"/containers/{id}/start")
                if turn % 3 == 0:
                    boat.request("DELETE", f"/containers/{id}?force=1")
            except OSError:
                return
            except Exception:  # half an answer
                return

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    stop.wait(0.3 + moment)
    boat.kill()
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    boat.start()
    assert boat.state(steady)["Running"]
    for container in boat.ask("GET", "/containers/json?all=1"):
        state = boat.state(container["Id"])
        assert state["Status"] in ("created", "running", "exited"), state
        assert bool(state["Pid"]) == (state["Status"] == "running")
        boat.ask("DELETE", f"/containers/{container['Id']}?force=1")
    assert not cgroups(boat), boat.log
    assert not list((boat.exec_root / "containers").iterdir())
    assert not list((boat.data_root / "containers").iterdir())
    assert boat.wait(boat.run("true")) == 0


def test_engine_ends_gracefully(boat: Engine) -> None:
    id = boat.run(*SERVER, HostConfig=published(18125))
    pid = boat.state(id)["Pid"]
    boat.stop()
    assert answer_of(18125) == "ahoy\n"
    boat.start()
    assert boat.state(id)["Pid"] == pid
    assert answer_of(18125) == "ahoy\n"


def test_two_engines_do_not_share_a_data_root(boat: Engine) -> None:
    other = Engine(boat.directory, boat.bridge, boat.bip, boat.cgroup_parent, ["--pidfile", ""])
    with pytest.raises(AssertionError, match="another engine"):
        other.start()
    assert boat.wait(boat.run("true")) == 0


@pytest.mark.parametrize("moment", [0.0, 0.2])
def test_engine_killed_during_a_build(boat: Engine, moment: float) -> None:
    context = boat.directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN sleep 1000\n")
    build = subprocess.Popen(
        ["docker", "build", str(context)], env=boat.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with build:
        assert build.stdout is not None
        while b"Running in" not in build.stdout.readline():
            pass
        threading.Event().wait(moment)  # not for anything: to be killed at another point of the step's start
        boat.kill()
    boat.start()
    assert boat.ask("GET", "/containers/json?all=1") == [] and not cgroups(boat)
    assert not list((boat.exec_root / "containers").iterdir())
    assert not list((boat.data_root / "containers").iterdir())
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo again\n")
    assert "again" in boat.docker("build", str(context)).stdout
