"""docker logs over the API: what was printed, by time, by number, as it comes; over rotated files; whoever listens."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine_fixture import PATIENCE, Engine, engine


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(boat: Engine) -> Iterator[None]:
    yield
    boat.remove_containers()


@contextmanager
def opened(boat: Engine, id: str, query: str) -> Iterator[http.client.HTTPResponse]:
    connection = boat.connect()
    try:
        connection.request("GET", f"/v1.47/containers/{id}/logs?{query}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        with answer:
            yield answer
    finally:
        connection.close()


def logs(boat: Engine, id: str, query: str = "stdout=1&stderr=1") -> bytes:
    with opened(boat, id, query) as answer:
        return answer.read()


def lines(boat: Engine, id: str, query: str = "") -> list[bytes]:
    """Of a container with a terminal: its stream has no frames."""
    return logs(boat, id, f"stdout=1&{query}").split()


def numbered(boat: Engine, count: int, **body: object) -> str:
    id = boat.run("sh", "-c", f"i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); done", Tty=True, **body)
    boat.wait(id)
    return id


def test_streams_are_told_apart(boat: Engine) -> None:
    id = boat.run("sh", "-c", "echo out; echo err >&2")
    boat.wait(id)
    out, err = b"\x01\0\0\0\0\0\0\x04out\n", b"\x02\0\0\0\0\0\0\x04err\n"
    assert logs(boat, id) in (out + err, err + out)
    assert logs(boat, id, "stdout=1") == out and logs(boat, id, "stderr=1") == err
    assert boat.request("GET", f"/containers/{id}/logs") == (
        400, {"message": "Bad parameters: you must choose at least one stream"}
    )


def test_a_part_of_it(boat: Engine) -> None:
    id = numbered(boat, 100)
    assert lines(boat, id) == [b"%d" % number for number in range(100)]
    assert lines(boat, id, "tail=3") == [b"97", b"98", b"99"]
    assert lines(boat, id, "tail=0") == [] and len(lines(boat, id, "tail=1000")) == 100
    stamped = logs(boat, id, "stdout=1&timestamps=1").split(b"\n")
    first, last = stamped[0].split(b" ")[0].decode(), stamped[99].split(b" ")[0].decode()
    assert first.endswith("Z") and len(first) == 30
    assert len(lines(boat, id, f"since={first}")) == 100
    assert lines(boat, id, f"until={last}")[-1] == b"99" and b"0" in lines(boat, id, f"until={first}")
    assert lines(boat, id, "since=2100-01-01T00:00:00Z") == [] and lines(boat, id, "until=1") == []


def test_rotated_files_are_read_too(boat: Engine) -> None:
    config = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "4k", "max-file": "3"}}}
    id = numbered(boat, 1000, HostConfig=config)
    path = Path(boat.inspect(id)["LogPath"])
    files = sorted(path.parent.glob("*-json.log*"))
    assert len(files) == 3 and all(file.stat().st_size <= 8192 for file in files)
    found = [int(line) for line in lines(boat, id)]
    assert found == list(range(found[0], 1000)) and 0 < found[0] < 990
    assert [int(line) for line in lines(boat, id, "tail=90")] == list(range(910, 1000))


def test_followed_over_rotations_to_the_end(boat: Engine) -> None:
    config = {"LogConfig": {"Config": {"max-size": "4k", "max-file": "5"}}}
    id = boat.create("sh", "-c", "read go; i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); usleep 500; done",
                     OpenStdin=True, Tty=True, HostConfig=config)
    with attached(boat, id) as client:
        boat.ask("POST", f"/containers/{id}/start")
        with opened(boat, id, "stdout=1&follow=1") as answer:
            client.sendall(b"go\n")
            found = answer.read().split()
    assert found[0] == b"go" and [int(line) for line in found[1:]] == list(range(400))


@contextmanager
def attached(boat: Engine, id: str) -> Iterator[socket.socket]:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(boat.socket)
    head = f"POST /v1.47/containers/{id}/attach?stdin=1&stream=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    client.sendall(head.encode() + b"Upgrade: tcp\r\n\r\n")
    assert b" 101 " in client.recv(4096)
    with client:
        yield client


def test_followed_log_of_an_ended_container_ends(boat: Engine) -> None:
    id = numbered(boat, 3)
    assert lines(boat, id, "follow=1") == [b"0", b"1", b"2"]


def test_reader_ends_with_its_client(boat: Engine) -> None:
    id = boat.run("sh", "-c", "echo here; exec sleep 1000")
    with opened(boat, id, "stdout=1&follow=1") as answer:
        assert answer.read(13) == b"\x01\0\0\0\0\0\0\x05here\n"
        readers = [pid for pid in readers_of(boat) if following(pid, id, boat)]
        assert len(readers) == 1
        fd = os.pidfd_open(readers[0])
    try:
        assert select.select([fd], [], [], PATIENCE)[0]
    finally:
        os.close(fd)


def readers_of(boat: Engine) -> list[int]:
    worker = boat.helper("sampan.engine.worker")
    return [int(child) for child in Path(f"/proc/{worker}/task/{worker}/children").read_text().split()]


def following(pid: int, id: str, boat: Engine) -> bool:
    """Has the process the container's directory open?"""
    directory = boat.data_root / "containers" / id
    return any(link.resolve() == directory.resolve() for link in Path(f"/proc/{pid}/fd").iterdir())


def test_follow_until_a_moment(boat: Engine) -> None:
    id = boat.run("sleep", "1000", Tty=True)
    assert lines(boat, id, f"follow=1&until={time.time() + 0.3:.3f}") == []


def test_client_that_does_not_read_disturbs_nobody(boat: Engine) -> None:
    id = boat.run("sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 3000000", Tty=True)
    with opened(boat, id, "stdout=1&follow=1"):
        boat.wait(id)
        assert boat.ask("GET", "/containers/json") is not None
        assert len(logs(boat, id, "stdout=1&tail=10").split()) == 10


def test_without_a_log(boat: Engine) -> None:
    id = boat.run("echo", "unheard", HostConfig={"LogConfig": {"Type": "none"}})
    boat.wait(id)
    assert boat.inspect(id)["LogPath"] == ""
    status, answer = boat.request("GET", f"/containers/{id}/logs?stdout=1")
    assert status == 400 and answer["message"] == "configured logging driver does not support reading"


def test_file_is_dockers(boat: Engine) -> None:
    id = boat.run("echo", "aye")
    boat.wait(id)
    path = Path(boat.inspect(id)["LogPath"])
    assert path.name == f"{id}-json.log"
    entry = json.loads(path.read_text())
    assert entry.keys() == {"log", "stream", "time"} and (entry["log"], entry["stream"]) == ("aye\n", "stdout")


def test_torn_line_is_left_out(boat: Engine) -> None:
    id = numbered(boat, 2)
    path = Path(boat.inspect(id)["LogPath"])
    path.write_bytes(b'{"log":"tor' + b"\n" + path.read_bytes() + b'{"log":"half')
    assert lines(boat, id) == [b"0", b"1"]
