"""A small HTTP/1.1 client on a plain socket, for one engine on the same host.

Not http.client: that costs 20 ms to import and cannot take over a connection (attach, exec), nor read an answer that
comes while a build context is still being sent. Framing follows RFC 9112: Content-Length, chunked, or until close.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterable, Iterator, Mapping

from sampan.cli.failure import ConnectionLost

HEAD_LIMIT = 64 << 10
LINE_LIMIT = 16 << 10
EARLY_LIMIT = 1 << 20
BLOCK = 64 << 10

Body = bytes | Iterable[bytes] | None


class Head:
    """Status and headers of an answer; header names in lower case."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: dict[str, str]) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers


def parse_head(block: bytes) -> Head:
    """The head of a response, without its closing empty line. Raises ConnectionLost when it is not HTTP/1."""
    lines = block.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or len(status) != 3 or not status.isdigit():
        raise ConnectionLost(f"the engine's answer is not HTTP: {lines[0][:80]!r}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return Head(int(status), reason, headers)


def format_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request with its closing empty line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


class Connection:
    """One connection: one request at a time, kept open between requests when the framing allows."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.closed = False

    def request(self, method: str, target: str, headers: Mapping[str, str], body: Body = None) -> Response:
        """Sends a request and returns when the head of the answer is there. A body that is not bytes goes out chunked.

        Raises ConnectionLost. An engine that answers early (an error while the body is still being sent) is heard.
        """
        fields = {"Host": "sampan", "User-Agent": "Sampan-Client", **headers}
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields["Transfer-Encoding"] = "chunked"
        elif method in ("POST", "PUT"):
            fields["Content-Length"] = "0"
        self._send(format_head(method, target, fields) + (body if isinstance(body, bytes) else b""))
        complete = True
        if body is not None and not isinstance(body, bytes):
            complete = self._send_chunked(body)
        return Response(self, method, self._read_head(), reusable=complete)

    def _send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer, if there is one, says why

    def _send_chunked(self, body: Iterable[bytes]) -> bool:
        """Whether all of it was sent; False when the engine answered or closed before it had everything."""
        for block in body:
            if block and not self._push(b"%x\r\n%b\r\n" % (len(block), block)):
                return False
        return self._push(b"0\r\n\r\n")

    def _push(self, data: bytes) -> bool:
        """Sends `data` while taking in what the engine says meanwhile: two sides that only write would stand still."""
        view = memoryview(data)
        poll = select.poll()
        while view:
            wants = select.POLLOUT | (select.POLLIN if len(self.buffer) < EARLY_LIMIT else 0)
            poll.register(self.sock, wants)
            ready = poll.poll()[0][1]
            if ready & select.POLLIN:
                early = self.sock.recv(BLOCK)
                self.buffer += early
                if not early or self._has_failed():
                    return False
            elif ready & (select.POLLERR | select.POLLHUP):
                return False
            if ready & select.POLLOUT:
                try:
                    view = view[self.sock.send(view, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    return False
        return True

    def _has_failed(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        return end >= 0 and parse_head(self.buffer[:end]).status >= 400

    def receive(self) -> bytes:
        """The next bytes from the engine; b"" at its end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        try:
            return self.sock.recv(BLOCK)
        except ConnectionResetError:
            return b""

    def read_until(self, mark: bytes, limit: int) -> bytes:
        """What comes before `mark`; the mark is eaten. Raises ConnectionLost at the end or beyond `limit` bytes."""
        seen = self.buffer
        self.buffer = b""
        while (end := seen.find(mark)) < 0:
            if len(seen) > limit:
                raise ConnectionLost("the engine's answer is not HTTP: a header line without end")
            data = self.receive()
            if not data:
                raise ConnectionLost("the engine closed the connection before it answered")
            seen += data
        if end > limit:
            raise ConnectionLost("the engine's answer is not HTTP: a header that is too long")
        self.buffer = seen[end + len(mark) :]
        return seen[:end]

    def _read_head(self) -> Head:
        while True:
            head = parse_head(self.read_until(b"\r\n\r\n", HEAD_LIMIT))
            if head.status >= 200 or head.status == 101:
                return head

    def is_quiet(self) -> bool:
        """Whether another request can go out: still open, and the engine has said nothing since its last answer."""
        if self.closed or self.buffer:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Idempotent."""
        self.closed = True
        self.sock.close()


class Response:
    """An answer whose body has not been read yet. Read it to the end, or `close` it."""

    def __init__(self, connection: Connection, method: str, head: Head, reusable: bool) -> None:
        self.connection = connection
        self.status = head.status
        self.reason = head.reason
        self.headers = head.headers
        self._chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        self._left: int | None = None
        length = head.headers.get("content-length", "")
        if method == "HEAD" or head.status in (101, 204, 304):
            self._chunked, self._left = False, 0
        elif not self._chunked and length.isdigit():
            self._left = int(length)
        self._reusable = (
            reusable
            and (self._chunked or self._left is not None)
            and head.headers.get("connection", "").lower() != "close"
        )
        self.finished = self._left == 0

    def blocks(self) -> Iterator[bytes]:
        """The body piece by piece, as it arrives. Raises ConnectionLost when it ends too early."""
        if self._chunked:
            yield from self._chunks()
        elif self._left is not None:
            while self._left:
                yield self._take(self._left)
        else:
            while data := self.connection.receive():
                yield data
        self.finished = True

    def _take(self, most: int) -> bytes:
        data = self.connection.receive()
        if not data:
            raise ConnectionLost("the engine closed the connection in the middle of its answer")
        if len(data) > most:
            self.connection.buffer = data[most:] + self.connection.buffer
            data = data[:most]
        if self._left is not None:
            self._left -= len(data)
        return data

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self.connection.read_until(b"\r\n", LINE_LIMIT).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                raise ConnectionLost(f"the engine's answer is not HTTP: chunk size {line[:40]!r}") from None
            if size == 0:
                while self.connection.read_until(b"\r\n", LINE_LIMIT):
                    pass  # trailers
                return
            while size:
                data = self._take(size)
                size -= len(data)
                yield data
            self.connection.read_until(b"\r\n", LINE_LIMIT)

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.blocks())

    def lines(self) -> Iterator[bytes]:
        """The body line by line as lines complete (JSON streams); a last line without newline counts."""
        rest = b""
        for block in self.blocks():
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Takes the socket over after 101, or after the 200 of old daemons: (socket, what came after the head)."""
        leftover, self.connection.buffer = self.connection.buffer, b""
        self.connection.closed = True
        return self.connection.sock, leftover

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection can carry another request now."""
        return self._reusable and self.finished and not self.connection.closed

    def close(self) -> None:
        """Done with it. Closes the connection when the body was not read to its end."""
        if not self.keeps_connection:
            self.connection.close()


def is_refusal(error: OSError) -> bool:
    """Whether a failed connect means that nobody listens there (yet)."""
    return error.errno in (errno.ENOENT, errno.ECONNREFUSED)
