"""Stream frames, detach keys, HTTP framing: bytes in any pieces."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sampan.cli.attach.keys import DetachScanner, parse_keys
from sampan.cli.attach.stdcopy import Demultiplexer
from sampan.cli.failure import ConnectionLost, UsageError
from sampan.cli.http import Connection, format_head, parse_head

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxI", stream, len(data)) + data


@given(some.lists(some.tuples(some.sampled_from((1, 2)), some.binary(max_size=20)), max_size=8), some.integers(1, 7))
def test_frames_in_any_pieces(parts: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(frame(stream, text) for stream, text in parts)
    reader = Demultiplexer()
    got = {1: b"", 2: b""}
    for start in range(0, len(data), step):
        for stream, text in reader.feed(data[start : start + step]):
            got[stream] += text
    for stream in (1, 2):
        assert got[stream] == b"".join(text for number, text in parts if number == stream)


def test_what_is_no_frame() -> None:
    with pytest.raises(ConnectionLost):
        list(Demultiplexer().feed(b"hello, terminal"))
    assert list(Demultiplexer().feed(frame(3, b"trouble"))) == [(3, b"trouble")]


def test_detach_keys() -> None:
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-@,ctrl-[,ctrl-_") == b"a\x00\x1b\x1f"
    for bad in ("ctrl-1", "ctrl-", "ab", "", "a,,b"):
        with pytest.raises(UsageError):
            parse_keys(bad)


@pytest.mark.parametrize(("pieces", "sent", "detached"), [
    ([b"abc"], b"abc", False),
    ([b"ab\x10\x11cd"], b"ab", True),
    ([b"\x10", b"\x11"], b"", True),
    ([b"\x10", b"x"], b"\x10x", False),
    ([b"\x10\x10\x11"], b"\x10", True),
    ([b"\x10", b"\x10", b"a"], b"\x10\x10a", False),
])
def test_looking_for_them(pieces: list[bytes], sent: bytes, detached: bool) -> None:
    scanner, out, over = DetachScanner(b"\x10\x11"), b"", False
    for piece in pieces:
        text, over = scanner.feed(piece)
        out += text
    assert (out, over) == (sent, detached)


def answer(data: bytes, *, split: int = 0) -> Connection:
    """A connection whose other end has already said `data`."""
    ours, theirs = socket.socketpair()
    if split:
        def slowly() -> None:
            for start in range(0, len(data), split):
                theirs.sendall(data[start : start + split])
            theirs.close()
        threading.Thread(target=slowly).start()
    else:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
    return Connection(ours)


@pytest.mark.parametrize("split", [0, 1, 3])
@pytest.mark.parametrize(("data", "body", "keeps"), [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    (CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nA: b\r\n\r\n", b"hello", True),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
])
def test_bodies(data: bytes, body: bytes, keeps: bool, split: int) -> None:
    connection = answer(data, split=split)
    response = connection.request("GET", "/x", {})
    assert response.read() == body
    assert response.keeps_connection == keeps
    connection.close()


@pytest.mark.parametrize("data", [
    b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", CHUNKED + b"xyz\r\n", CHUNKED + b"5\r\nhe",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
])
def test_broken_answers(data: bytes) -> None:
    connection = answer(data)
    with pytest.raises(ConnectionLost):
        connection.request("GET", "/x", {}).read()
    connection.close()


def test_a_hijacked_connection_keeps_what_came_early() -> None:
    connection = answer(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: x\r\n\r\nearly")
    sock, leftover = connection.request("POST", "/x", {}).hijack()
    assert leftover == b"early"
    assert connection.closed
    sock.close()


def test_an_early_error_ends_the_sending_of_a_body() -> None:
    connection = answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")

    def endless() -> object:
        while True:
            yield b"x" * 65536

    response = connection.request("POST", "/build", {}, endless())  # type: ignore[arg-type]
    assert response.status == 400 and response.read() == b"no"
    assert not response.keeps_connection
    connection.close()


def test_heads() -> None:
    head = parse_head(b"HTTP/1.1 404 Not Found\r\nA: 1\r\nB:2\r\na: 3")
    assert (head.status, head.reason, head.headers) == (404, "Not Found", {"a": "1, 3", "b": "2"})
    assert format_head("GET", "/x", {"A": "b"}) == b"GET /x HTTP/1.1\r\nA: b\r\n\r\n"
