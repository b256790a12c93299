"""The HTTP server over a real socket: keep-alive, pipelining, bodies, streams, hijacking, clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.api import listen
from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.connection import MAX_HEAD
from sampan.api.pipe import request_body, response_body
from sampan.api.progress import Progress
from sampan.api.response import Response
from sampan.api.router import Route, Router
from sampan.api.server import Server
from sampan.errors import Conflict, InvalidArgument, NotFound, NotModified

PING = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"


class Lab:
    """Handlers that let the tests see what the server does, and one listening server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gone = asyncio.Event()
        self.finished = asyncio.Event()
        self.hijacked: list[tuple[socket.socket, bytes]] = []
        self.broken = asyncio.Event()
        self.server = Server(None, Router([  # type: ignore[arg-type]
            Route("GET", "/_ping", self.ping),
            Route("HEAD", "/_ping", self.ping),
            Route("POST", "/json", self.json),
            Route("POST", "/upload", self.upload),
            Route("POST", "/ignore", self.ping),
            Route("GET", "/fail/{name}", self.fail),
            Route("GET", "/endless", self.endless, abandon=True),
            Route("GET", "/stubborn", self.stubborn),
            Route("GET", "/lines", self.lines, abandon=True),
            Route("GET", "/break", self.break_off),
            Route("GET", "/tar", self.tar),
            Route("GET", "/brokentar", self.broken_tar),
            Route("GET", "/progress/{name}", self.progress),
            Route("POST", "/attach", self.attach),
            Route("GET", "/logs", self.logs),
        ]))

    async def ping(self, call: Call) -> Response:
        return Response(200, b"OK", b"text/plain")

    async def json(self, call: Call) -> Response:
        return answer.json(await call.json())

    async def upload(self, call: Call) -> Response:
        """Counts what comes through the pipe, in a thread, as a job in another process would."""
        try:
            async with request_body(call) as fd:
                return answer.json({"bytes": await asyncio.to_thread(_count, fd)})
        except InvalidArgument:
            self.broken.set()
            raise

    async def fail(self, call: Call) -> Response:
        errors = {"404": NotFound("no such thing"), "409": Conflict("in use"), "304": NotModified("already"),
                  "500": ZeroDivisionError("oops")}
        raise errors[call.name]

    async def endless(self, call: Call) -> None:
        await call.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.gone.set()

    async def stubborn(self, call: Call) -> Response:
        try:
            await self.gone.wait()
            return Response(200)
        finally:
            self.finished.set()

    async def lines(self, call: Call) -> None:
        async def numbers() -> AsyncIterator[dict[str, int]]:
            try:
                for number in range(1_000_000):
                    yield {"n": number}
            finally:
                self.gone.set()

        await call.stream(numbers())

    async def break_off(self, call: Call) -> None:
        await call.start()
        await call.write(b"{}\n")
        raise NotFound("gone in the middle")

    async def tar(self, call: Call) -> None:
        async def produce(fd: int) -> None:
            await asyncio.to_thread(_write_all, fd, b"x" * 3_000_000)

        await response_body(call, b"application/x-tar", produce)

    async def broken_tar(self, call: Call) -> None:
        async def produce(fd: int) -> None:
            if call.query.flag("late"):
                os.write(fd, b"half")
            raise NotFound("no such image")

        await response_body(call, b"application/x-tar", produce)

    async def progress(self, call: Call) -> None:
        async with Progress(call) as progress:
            if call.name != "early":
                progress.emit({"stream": "one"})
            if call.name == "flood":
                for _ in range(400):
                    progress.emit({"stream": "x" * 65536})
                progress.emit({"aux": {"ID": "done"}})
                return
            if call.name == "good":
                progress.emit({"stream": "two"})
                return
            raise NotFound("lost")

    async def attach(self, call: Call) -> None:
        self.hijacked.append(await call.hijack(multiplexed=True))

    async def logs(self, call: Call) -> None:
        self.hijacked.append((await call.give_away(b"application/vnd.docker.raw-stream"), b""))


def _count(fd: int) -> int:
    total = 0
    while piece := os.read(fd, 1 << 16):
        total += len(piece)
    return total


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def response(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = b""
        if not head_only:
            if headers.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    body += piece
            else:
                body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split(" ")[1]), headers, body

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]


def play(scene: Callable[[Lab, Client], Awaitable[None]], tmp_path: Path) -> None:
    async def run() -> None:
        lab = Lab(tmp_path / "api.sock")
        lab.server.start([listen.unix_socket(lab.path)])
        client = await connect(lab)
        try:
            async with asyncio.timeout(20):
                await scene(lab, client)
        finally:
            client.writer.close()
            for sock, _ in lab.hijacked:
                sock.close()
            await lab.server.close()
        assert lab.server.connections == 0

    asyncio.run(run())


async def connect(lab: Lab) -> Client:
    return Client(*await asyncio.open_unix_connection(lab.path))


def test_keep_alive_and_headers(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        for _ in range(3):
            client.send(PING)
            code, headers, body = await client.response()
            assert (code, body) == (200, b"OK")
            assert headers["api-version"] == "1.50" and headers["ostype"] == "linux"
            assert headers["docker-experimental"] == "false" and headers["server"].startswith("Sampan/")
        client.send(b"HEAD /_ping HTTP/1.1\r\nHost: x\r\n\r\n" + PING)
        code, headers, _ = await client.response(head_only=True)
        assert code == 200 and headers["content-length"] == "2"
        assert (await client.response())[2] == b"OK"

    play(scene, tmp_path)


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        posts = [
            b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + body
            for body in (b'{"a":1}', b'{"b":2}')
        ]
        client.send(PING + b"".join(posts) + PING)
        bodies = [(await client.response())[2] for _ in range(4)]
        assert bodies == [b"OK", b'{"a":1}\n', b'{"b":2}\n', b"OK"]

    play(scene, tmp_path)


def test_a_request_in_single_bytes(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        body = b'{"name":"w\xc3\xa4rf"}'
        for byte in b"POST /v1.41/json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n" \
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body):
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert json.loads((await client.response())[2]) == {"name": "wärf"}

    play(scene, tmp_path)


@pytest.mark.parametrize(("path", "code", "message"), [
    ("/fail/404", 404, "no such thing"),
    ("/fail/409", 409, "in use"),
    ("/fail/500", 500, "ZeroDivisionError: oops"),
    ("/nowhere", 404, "page not found"),
    ("/v1.12/_ping", 400, "client version 1.12 is too old. Minimum supported API version is 1.24, "
                          "please upgrade your client to a newer version"),
    ("/progress/early", 404, "lost"),
    ("/brokentar", 404, "no such image"),
])
def test_errors_have_dockers_shape(path: str, code: int, message: str, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() + PING)
        found, headers, body = await client.response()
        assert (found, json.loads(body)) == (code, {"message": message})
        assert headers["content-type"] == "application/json"
        assert (await client.response())[2] == b"OK"

    play(scene, tmp_path)


def test_not_modified_has_no_body(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /fail/304 HTTP/1.1\r\nHost: x\r\n\r\n" + PING)
        assert (await client.response())[0] == 304
        assert (await client.response())[2] == b"OK"

    play(scene, tmp_path)


@pytest.mark.parametrize(("body", "kind", "message"), [
    (b"", "application/json", "got EOF"),
    (b"{", "application/json", "invalid JSON"),
    (b"[1]", "application/json", "must be an object"),
    (b"{} x", "application/json", "invalid JSON"),
    (b"{}", "text/plain", "must be 'application/json'"),
    (b'{"a":' * 5000, "application/json", "invalid JSON"),
    (b'{"a":' * 200 + b"1" + b"}" * 200, "application/json", "nested deeper"),
    (b'{"a":"\xff"}', "application/json", "invalid JSON"),
])
def test_json_that_is_none(body: bytes, kind: str, message: str, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                    % (kind.encode(), len(body), body))
        code, _, text = await client.response()
        assert code == 400 and message in json.loads(text)["message"]

    play(scene, tmp_path)


def test_a_body_that_is_too_large_is_refused_before_it_comes(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 17000000000\r\n\r\n")
        code, _, text = await client.response()
        assert code == 400 and "is larger than" in json.loads(text)["message"]

    play(scene, tmp_path)


@pytest.mark.parametrize("request_", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    b"GET / HTTP/one\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\n\r\n",  # no Host
    b"GET /_ping HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
])
def test_what_is_not_http_is_answered_and_cut(request_: bytes, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(request_)
        code, headers, body = await client.response()
        assert code in (400, 501) and json.loads(body)["message"].startswith("bad request: ")
        assert headers["connection"] == "close"
        assert await client.reader.read() == b""

    play(scene, tmp_path)


def test_oversized_headers(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * (MAX_HEAD - 200) + b"\r\n\r\n")
        assert (await client.response())[0] == 200
        client.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * (MAX_HEAD + 1))
        assert (await client.response())[0] == 431

    play(scene, tmp_path)


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_go_through_a_pipe(chunked: bool, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        size, piece = 5_000_000, b"z" * 100_000
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked
                    else b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            await client.writer.drain()
        client.send((b"0\r\n\r\n" if chunked else b"") + PING)
        assert json.loads((await client.response())[2]) == {"bytes": size}
        assert (await client.response())[2] == b"OK"

    play(scene, tmp_path)


def test_a_client_that_waits_for_100_continue(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        client.send(b"abc")
        assert json.loads((await client.response())[2]) == {"bytes": 3}
        client.send(b"POST /fail HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        code, headers, _ = await client.response()
        assert code == 404 and headers["connection"] == "close"

    play(scene, tmp_path)


@pytest.mark.parametrize("end", ["half-close", "close", "bad chunk"])
def test_half_a_body_is_no_body(end: str, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        if end == "bad chunk":
            client.send(b"nonsense\r\n")
        elif end == "half-close":
            client.writer.write_eof()
        else:
            client.writer.close()
        if end != "close":
            code, _, body = await client.response()
            assert code == 400 and "ended early" in json.loads(body)["message"]
        await lab.broken.wait()

    play(scene, tmp_path)


def test_an_ignored_body_is_read_away_or_cut(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000 + PING)
        assert (await client.response())[2] == b"OK"
        assert (await client.response())[2] == b"OK"
        client.send(b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
        assert (await client.response())[2] == b"OK"  # told, though most of the body was not read
        assert await client.reader.read() == b""

    play(scene, tmp_path)


def test_a_client_that_leaves_ends_its_stream(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.close()
        await lab.gone.wait()

    play(scene, tmp_path)


def test_a_half_close_does_not_end_a_stream(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.write_eof()
        await client.reader.readuntil(b"\r\n\r\n")
        other = await connect(lab)
        other.send(PING)
        assert (await other.response())[2] == b"OK"
        other.writer.close()
        assert not lab.gone.is_set()
        client.writer.close()
        await lab.gone.wait()

    play(scene, tmp_path)


def test_what_must_not_be_half_done_runs_to_its_end_without_its_client(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /stubborn HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.close()
        await client.writer.wait_closed()
        other = await connect(lab)
        other.send(PING)
        await other.response()
        assert not lab.finished.is_set()
        lab.gone.set()
        await lab.finished.wait()
        other.writer.close()

    play(scene, tmp_path)


def test_a_client_that_does_not_read_holds_up_only_itself(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /lines HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        other = await connect(lab)
        other.send(PING)
        assert (await other.response())[2] == b"OK"
        other.writer.close()
        client.writer.close()
        await lab.gone.wait()

    play(scene, tmp_path)


def test_an_answer_that_breaks_off_has_no_end(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        for path in (b"/break", b"/brokentar?late=1"):
            other = await connect(lab)
            other.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            with pytest.raises((asyncio.IncompleteReadError, ValueError)):  # no last chunk
                await other.response()
            other.writer.close()

    play(scene, tmp_path)


def test_a_large_answer_through_a_pipe(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /tar HTTP/1.1\r\nHost: x\r\n\r\n" + PING)
        code, headers, body = await client.response()
        assert (code, headers["content-type"], len(body)) == (200, "application/x-tar", 3_000_000)
        assert (await client.response())[2] == b"OK"

    play(scene, tmp_path)


def test_progress_streams_end_with_their_error(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /progress/good HTTP/1.1\r\nHost: x\r\n\r\nGET /progress/late HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response())[2] == b'{"stream":"one"}\n{"stream":"two"}\n'
        code, _, body = await client.response()
        assert code == 200
        assert [json.loads(line) for line in body.splitlines()] == [
            {"stream": "one"}, {"errorDetail": {"message": "lost"}, "error": "lost"},
        ]

    play(scene, tmp_path)


def test_output_that_nobody_reads_is_clipped_and_the_result_is_not(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /progress/flood HTTP/1.1\r\nHost: x\r\n\r\n")
        lines = [json.loads(line) for line in (await client.response())[2].splitlines()]
        assert lines[-1] == {"aux": {"ID": "done"}} and "output clipped" in lines[-2]["stream"]
        assert 100 < len(lines) < 200

    play(scene, tmp_path)


FLOOD = """
import select, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.setblocking(False)
data = {
    "body": b"POST /upload HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 300000000\\r\\n\\r\\n" + b"x" * 300000000,
    "pipeline": b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" * 12000,
}[sys.argv[2]]
view, poll, told = memoryview(data), select.poll(), False
poll.register(sock, select.POLLIN | select.POLLOUT)
poll.register(0, 0)
while True:  # until stdin hangs up
    for fd, ready in poll.poll():
        if fd == 0:
            sys.exit()
        if ready & select.POLLIN:
            sock.recv(1 << 20)
        if ready & select.POLLOUT:
            view = view[sock.send(view[:1 << 20]):] or memoryview(data)
            if not told and len(view) <= len(data) // 2:
                told = True
                sys.stdout.write("half\\n")
                sys.stdout.flush()
"""


@pytest.mark.parametrize("kind", ["body", "pipeline"])
def test_a_client_that_floods_leaves_turns_to_others(kind: str, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        flooding = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FLOOD, str(lab.path), kind, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert flooding.stdout is not None and flooding.stdin is not None
        await flooding.stdout.readline()
        for _ in range(3):
            client.send(PING)
            assert (await client.response())[2] == b"OK"
        assert flooding.returncode is None
        flooding.stdin.close()
        assert await flooding.wait() == 0

    play(scene, tmp_path)


@pytest.mark.parametrize(("version", "upgrade", "head"), [
    (b"", True, b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
    (b"/v1.41", True, b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
                      b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
    (b"", False, b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"),
])
def test_a_hijacked_socket_leaves_whole(version: bytes, upgrade: bool, head: bytes, tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        headers = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
        client.send(b"POST %s/attach HTTP/1.1\r\nHost: x\r\n%sContent-Length: 0\r\n\r\nearly input"
                    % (version, headers))
        assert await client.reader.readuntil(b"\r\n\r\n") == head
        while lab.server.connections:
            await asyncio.sleep(0)
        sock, leftover = lab.hijacked.pop()
        with sock:
            loop = asyncio.get_running_loop()
            while len(leftover) < len(b"early input"):
                leftover += await loop.sock_recv(sock, 100)
            assert leftover == b"early input"
            client.send(b"more")
            client.writer.write_eof()
            assert await loop.sock_recv(sock, 100) == b"more"
            assert await loop.sock_recv(sock, 100) == b""  # its stdin is at the end, and the other way is open
            await loop.sock_sendall(sock, b"output")
        assert await client.reader.read() == b"output"

    play(scene, tmp_path)


def test_the_descriptor_of_a_hijacked_socket_may_be_used_again(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        for _ in range(20):
            other = await connect(lab)
            other.send(b"POST /attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
            await other.reader.readuntil(b"\r\n\r\n")
            lab.hijacked.pop()[0].close()
            client.send(PING)
            assert (await client.response())[2] == b"OK"
            other.writer.close()

    play(scene, tmp_path)


def test_a_socket_given_away_for_logs_ends_with_the_connection(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        client.send(b"GET /logs HTTP/1.1\r\nHost: x\r\n\r\n")
        _, headers, _ = await client.response()
        assert headers["connection"] == "close" and "transfer-encoding" not in headers
        sock = lab.hijacked.pop()[0]
        await asyncio.get_running_loop().sock_sendall(sock, b"a line\n")
        sock.close()
        assert await client.reader.read() == b"a line\n"

    play(scene, tmp_path)


def test_closing_ends_streams_and_idle_connections_and_lets_the_rest_finish(tmp_path: Path) -> None:
    async def scene(lab: Lab, client: Client) -> None:
        stream, busy = await connect(lab), await connect(lab)
        stream.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.reader.readuntil(b"\r\n\r\n")
        lab.gone.clear()
        busy.send(b"GET /stubborn HTTP/1.1\r\nHost: x\r\n\r\n")
        client.send(PING)
        await client.response()
        await lab.server.close()  # the end of the stream sets `gone`, and with it the stubborn one may finish
        assert (await busy.response())[0] == 200
        assert await client.reader.read() == b"" and not lab.path.exists()
        stream.writer.close()
        busy.writer.close()

    async def run() -> None:
        lab = Lab(tmp_path / "api.sock")
        lab.server.start([listen.unix_socket(lab.path)])
        client = await connect(lab)
        async with asyncio.timeout(20):
            await scene(lab, client)
        client.writer.close()

    asyncio.run(run())


def test_the_socket_belongs_to_root_and_the_group(tmp_path: Path) -> None:
    """CVE-2014-3499."""
    path = tmp_path / "deep" / "api.sock"
    listener = listen.unix_socket(path)
    mode, group = path.stat(), listen.group_id()
    assert stat.S_IMODE(mode.st_mode) == (0o660 if group is not None else 0o600)
    assert mode.st_uid == os.geteuid() and mode.st_gid == (group if group is not None else os.getegid())
    with pytest.raises(Conflict, match="another engine answers there"):
        listen.unix_socket(path)
    listener.sock.close()
    again = listen.unix_socket(path)  # nobody answers: replaced
    listener.close()  # not its file any more
    assert path.exists()
    again.close()
    assert not path.exists()


def test_what_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(InvalidArgument, match="is not a socket"):
        listen.unix_socket(path)
    assert path.read_text() == "precious"
    with pytest.raises(InvalidArgument, match="too long"):
        listen.unix_socket(tmp_path / ("x" * 120))


def test_systemds_socket_is_taken_over(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException), socket.socket(socket.AF_UNIX) as ready:
            ready.bind(str(tmp_path / "systemd.sock"))
            ready.listen()
            os.dup2(ready.fileno(), 3)
            os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
            (found,) = listen.inherited()
            assert found.sock.getsockname() == str(tmp_path / "systemd.sock") and found.path is None
            assert not os.get_inheritable(3) and not [name for name in os.environ if name.startswith("LISTEN")]
            assert listen.inherited() == []
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_no_descriptors_left_is_no_end(tmp_path: Path) -> None:
    """EMFILE in accept: the server waits until a connection ends instead of spinning or dying."""
    async def scene(lab: Lab, client: Client) -> None:
        client.send(PING)
        await client.response()
        hoard: list[int] = []
        other: Any = socket.socket(socket.AF_UNIX)
        other.setblocking(False)
        try:
            with contextlib.suppress(OSError):
                while True:
                    hoard.append(os.dup(0))
            await asyncio.get_running_loop().sock_connect(other, str(lab.path))
            await asyncio.get_running_loop().sock_sendall(other, PING)
            await asyncio.sleep(0)
            client.send(PING)
            assert (await client.response())[2] == b"OK"
        finally:
            for fd in hoard:
                os.close(fd)
        client.writer.close()
        assert (await asyncio.get_running_loop().sock_recv(other, 1000)).endswith(b"OK")
        other.close()

    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        play(scene, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
