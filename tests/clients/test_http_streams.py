"""The streams of the Engine API as a client sees them on the wire: wait, attach, exec, logs, archives, stats."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import tarfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from engine_fixture import Engine

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


class Wire:
    """One connection, HTTP written by hand."""

    def __init__(self, engine: Engine) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(engine.socket)
        self.file = self.sock.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def send(self, method: str, target: str, body: object = None, extra: str = "") -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "" if isinstance(body, bytes) else "Content-Type: application/json\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\n{extra}{kind}Content-Length: {len(data)}\r\n\r\n"
        self.sock.sendall(head.encode() + data)

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers

    def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            length = headers.get("content-length")
            return self.file.read() if length is None else self.file.read(int(length))
        body = b""
        while size := int(self.file.readline(), 16):
            body += self.file.read(size)
            self.file.readline()
        self.file.readline()
        return body

    def ask(self, method: str, target: str, body: object = None, extra: str = "") -> tuple[int, bytes]:
        self.send(method, target, body, extra)
        status, headers = self.head()
        return status, b"" if method == "HEAD" or status in (204, 304) else self.body(headers)

    def frames(self) -> list[tuple[int, bytes]]:
        """Multiplexed output up to its end, neighbours of one stream joined."""
        found: list[tuple[int, bytes]] = []
        while header := self.file.read(8):
            stream, length = struct.unpack(">BxxxL", header)
            data = self.file.read(length)
            if found and found[-1][0] == stream:
                found[-1] = (stream, found[-1][1] + data)
            else:
                found.append((stream, data))
        return found


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    with closing(Wire(engine)) as wire:
        yield wire


def _tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def _create(wire: Wire, command: list[str], **config: object) -> str:
    status, body = wire.ask("POST", "/containers/create", {"Image": "busybox", "Cmd": command, **config})
    assert status == 201, body
    return str(json.loads(body)["Id"])


@pytest.fixture
def running(engine: Engine, wire: Wire) -> Iterator[str]:
    id = _create(wire, ["sleep", "1000"])
    assert wire.ask("POST", f"/containers/{id}/start") == (204, b"")
    yield id
    engine.docker("rm", "-f", id)


def test_the_head_of_wait_comes_before_the_end(engine: Engine, wire: Wire) -> None:
    id = _create(wire, ["sh", "-c", "exit 5"], HostConfig={"AutoRemove": True})
    with closing(Wire(engine)) as waiter:
        waiter.send("POST", f"/v1.50/containers/{id}/wait?condition=removed")
        status, headers = waiter.head()
        assert status == 200 and headers["content-type"] == "application/json"
        assert wire.ask("POST", f"/containers/{id}/start") == (204, b"")
        assert json.loads(waiter.body(headers)) == {"StatusCode": 5}
    assert wire.ask("GET", f"/containers/{id}/json")[0] == 404
    assert wire.ask("POST", "/containers/nope/wait")[0] == 404
    assert wire.ask("POST", f"/containers/{id}/wait?condition=full-moon")[0] in (400, 404)


def test_statuses_of_start_and_stop(engine: Engine, wire: Wire, running: str) -> None:
    assert wire.ask("POST", f"/containers/{running}/start") == (304, b"")
    assert wire.ask("POST", f"/containers/{running}/stop?t=0")[0] == 204
    assert wire.ask("POST", f"/containers/{running}/stop") == (304, b"")
    status, body = wire.ask("POST", f"/containers/{running}/kill")
    assert status == 409 and b"is not running" in body
    assert wire.ask("POST", f"/containers/{running}/pause")[0] == 409
    assert wire.ask("GET", "/containers/nope/json") == (404, b'{"message":"No such container: nope"}\n')


def test_why_a_stop_took_its_grace_time_is_in_a_header(wire: Wire, running: str) -> None:
    wire.send("POST", f"/containers/{running}/stop?t=0")
    status, headers = wire.head()
    assert status == 204 and "no handler for SIGTERM" in headers["sampan-warning"]


@pytest.mark.parametrize(("version", "upgrade", "status", "kind"), [
    ("/v1.50", UPGRADE, 101, "application/vnd.docker.multiplexed-stream"),
    ("/v1.41", UPGRADE, 101, "application/vnd.docker.raw-stream"),
    ("/v1.41", "", 200, "application/vnd.docker.raw-stream"),
])
def test_attach_with_stdin_that_ends(
    engine: Engine, wire: Wire, version: str, upgrade: str, status: int, kind: str
) -> None:
    id = _create(wire, ["sh", "-c", "cat; echo err >&2"], OpenStdin=True, StdinOnce=True, AttachStdin=True)
    with closing(Wire(engine)) as client:
        client.send("POST", f"{version}/containers/{id}/attach?stdin=1&stdout=1&stderr=1&stream=1", extra=upgrade)
        assert (lambda head: (head[0], head[1]["content-type"]))(client.head()) == (status, kind)
        client.sock.sendall(b"before the start\n")
        assert wire.ask("POST", f"/containers/{id}/start") == (204, b"")
        client.sock.sendall(b"and after\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.frames() == [(1, b"before the start\nand after\n"), (2, b"err\n")]
    engine.docker("rm", "-f", id)


def test_attach_is_refused_before_the_connection_is_taken(engine: Engine, wire: Wire, running: str) -> None:
    status, body = wire.ask("POST", "/containers/nope/attach?stream=1", extra=UPGRADE)
    assert status == 404 and b"No such container" in body
    engine.docker("pause", running)
    status, body = wire.ask("POST", f"/containers/{running}/attach?stream=1&stdout=1", extra=UPGRADE)
    assert status == 409 and b"paused" in body
    engine.docker("unpause", running)
    assert wire.ask("GET", f"/containers/{running}/attach/ws")[0] == 501


def test_exec(engine: Engine, wire: Wire, running: str) -> None:
    def create(command: list[str], **config: object) -> str:
        body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, **config}
        status, answer = wire.ask("POST", f"/containers/{running}/exec", body)
        assert status == 201
        return str(json.loads(answer)["Id"])

    id = create(["cat"], AttachStdin=True)
    with closing(Wire(engine)) as client:
        client.send("POST", f"/exec/{id}/start", {"Detach": False, "Tty": False}, UPGRADE)
        assert client.head()[0] == 101
        client.sock.sendall(b"through")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.frames() == [(1, b"through")]
    assert json.loads(wire.ask("GET", f"/exec/{id}/json")[1])["ExitCode"] == 0
    assert wire.ask("POST", f"/exec/{id}/start", {}, UPGRADE)[0] == 409
    missing = create(["no-such-command"])
    with closing(Wire(engine)) as client:
        client.send("POST", f"/exec/{missing}/start", {}, UPGRADE)
        assert client.head()[0] == 101
        ((stream, text),) = client.frames()
        assert stream == 2 and b"executable file not found" in text
    assert json.loads(wire.ask("GET", f"/exec/{missing}/json")[1])["ExitCode"] == 127
    assert wire.ask("POST", f"/exec/{create(['true'])}/start", {"Detach": True}) == (200, b"")
    assert wire.ask("POST", "/exec/nope/start", {})[0] == 404
    assert wire.ask("POST", f"/containers/{running}/exec", {"Cmd": []})[0] == 400


def test_logs_end_with_the_connection(engine: Engine, wire: Wire) -> None:
    id = _create(wire, ["sh", "-c", "echo one; echo two >&2; echo three"])
    with closing(Wire(engine)) as waiter:
        waiter.send("POST", f"/containers/{id}/wait?condition=next-exit")
        waiter.head()
        wire.ask("POST", f"/containers/{id}/start")
        waiter.file.readline()
    for query, expected in (
        ("stdout=1", [(1, b"one\nthree\n")]), ("stderr=1", [(2, b"two\n")]), ("stdout=1&tail=0", []),
        ("stdout=1&follow=1", [(1, b"one\nthree\n")]),
    ):
        with closing(Wire(engine)) as reader:
            reader.send("GET", f"/containers/{id}/logs?{query}")
            status, headers = reader.head()
            assert status == 200 and headers["content-type"] == "application/vnd.docker.multiplexed-stream"
            assert reader.frames() == expected
    status, body = wire.ask("GET", f"/containers/{id}/logs")
    assert status == 400 and b"you must choose at least one stream" in body
    engine.docker("rm", id)


def test_archives(engine: Engine, wire: Wire, running: str) -> None:
    assert wire.ask("PUT", f"/containers/{running}/archive?path=/", _tar({"dir/file": "content"}))[0] == 200
    wire.send("HEAD", f"/containers/{running}/archive?path=/dir/file")
    status, headers = wire.head()
    stat = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    assert status == 200 and stat["name"] == "file" and stat["size"] == 7 and stat["linkTarget"] == ""
    status, body = wire.ask("GET", f"/containers/{running}/archive?path=/dir")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["dir", "dir/file"]
    status, body = wire.ask("GET", f"/containers/{running}/export")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert "dir/file" in archive.getnames() and "bin/busybox" in archive.getnames()
    for method, target, code in (
        ("GET", f"/containers/{running}/archive?path=/nope", 404), ("GET", f"/containers/{running}/archive", 400),
        ("PUT", f"/containers/{running}/archive?path=/nope", 404), ("PUT", "/containers/nope/archive?path=/", 404),
    ):
        assert wire.ask(method, target, _tar({"a": "b"}) if method == "PUT" else None)[0] == code
    assert wire.ask("PUT", f"/containers/{running}/archive?path=/", b"no tar" * 1000)[0] == 400
    assert wire.ask("GET", "/_ping") == (200, b"OK")


def test_stats(wire: Wire, running: str) -> None:
    status, body = wire.ask("GET", f"/containers/{running}/stats?stream=0&one-shot=1")
    sample = json.loads(body)
    assert status == 200 and sample["id"] == running and sample["memory_stats"]["usage"] > 0
    wire.send("GET", f"/containers/{running}/stats")
    status, headers = wire.head()
    assert status == 200 and headers["transfer-encoding"] == "chunked"
    size = int(wire.file.readline(), 16)
    assert json.loads(wire.file.read(size))["name"].startswith("/")


def test_bodies_that_are_no_requests(wire: Wire) -> None:
    for body, words in (
        ({"Image": 7}, "Image"), ({}, ""), ({"Image": "busybox", "HostConfig": []}, ""),
        ({"Image": "busybox", "Cmd": {"a": 1}}, ""), ({"Image": "busybox", "Env": [1]}, ""),
    ):
        status, answer = wire.ask("POST", "/containers/create", body)
        assert status == 400 and words in json.loads(answer)["message"], (body, answer)
    assert wire.ask("POST", "/build?version=2", b"")[0] == 501
    assert wire.ask("POST", "/build?remote=git://x", b"")[0] == 501
    assert wire.ask("POST", "/session")[0] == 404
