"""A request on its way through a handler: what was asked, and the ways to answer that are not one short body."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import h11
import msgspec

from sampan.api import response as answer
from sampan.api.connection import Connection, Headers
from sampan.api.query import Query
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

MAX_JSON = 16 << 20
_MAX_DEPTH = 128
RAW_STREAM = b"application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = b"application/vnd.docker.multiplexed-stream"

_decode = msgspec.json.Decoder().decode


class Call:
    """`name` is the path's variable part: an id, a name, an image reference. `version` is what the client speaks."""

    __slots__ = ("_connection", "_headers", "_request", "engine", "name", "query", "version")

    def __init__(
        self, engine: Engine, connection: Connection, request: h11.Request, version: tuple[int, int], name: str,
        query: str, headers: Headers,
    ) -> None:
        self.engine = engine
        self.version = version
        self.name = name
        self.query = Query(query)
        self._connection = connection
        self._request = request
        self._headers = headers

    # -- what was asked

    @property
    def method(self) -> str:
        return self._request.method.decode()

    def header(self, name: bytes) -> str:
        """A request header (name in lower case), "" when absent."""
        for key, value in self._request.headers:
            if key == name:
                return value.decode("latin-1")
        return ""

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end. The client is slowed down to the pace of these calls."""
        return await self._connection.read()

    async def json(self, optional: bool = False) -> dict[str, Any]:
        """The body as a JSON object, at most 16 MiB. Raises InvalidArgument; an empty body may be `optional`."""
        body = await self._body()
        if not body:
            if optional:
                return {}
            raise InvalidArgument("invalid JSON: got EOF while reading request body")
        kind = self.header(b"content-type").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise InvalidArgument(f"unsupported Content-Type header ({kind}): must be 'application/json'")
        return decode_object(body)

    async def _body(self) -> bytes:
        length = self.header(b"content-length")
        if length and int(length) > MAX_JSON:
            raise InvalidArgument(f"a request body of {length} bytes is larger than the {MAX_JSON} bytes allowed")
        body = bytearray()
        while piece := await self.read():
            body += piece
            if len(body) > MAX_JSON:
                raise InvalidArgument(f"the request body is larger than the {MAX_JSON} bytes allowed")
        return bytes(body)

    # -- answers that take their time

    @property
    def started(self) -> bool:
        """Has the answer begun? Then errors can only be told inside of it."""
        return self._connection.started

    async def start(self, content_type: bytes = answer.JSON, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Send the head of a streamed 200 answer now; it ends when the handler returns None."""
        await self._connection.start(200, [*self._headers, (b"Content-Type", content_type), *headers])

    async def write(self, data: bytes) -> None:
        """A piece of the streamed answer; waits while the client does not read. Raises ConnectionError."""
        await self._connection.write(data)

    async def stream(self, values: AsyncIterator[Any]) -> None:
        """A streamed answer of JSON lines. The iterator is closed when the client leaves."""
        async with aclosing(values) as items:  # type: ignore[type-var]  # every stream of the engine has aclose
            async for value in items:
                if not self.started:
                    await self.start()
                await self.write(answer.encode(value))

    async def hijack(self, multiplexed: bool) -> tuple[socket.socket, bytes]:
        """Take the connection: the socket, non-blocking and the caller's to close, and what the client already sent.

        Clients that ask for an upgrade get 101, old ones 200 as from dockerd. The socket is never shut down here.
        """
        kind = MULTIPLEXED_STREAM if multiplexed and self.version >= (1, 42) else RAW_STREAM
        if self.header(b"upgrade"):
            head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" % kind
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % RAW_STREAM
        leftover = await self._connection.hijack(head)
        return self._connection.sock, leftover

    async def give_away(self, content_type: bytes) -> socket.socket:
        """Begin a 200 answer whose body ends with the connection; the caller's to write (or to pass on) and close."""
        lines = [*self._headers, (b"Content-Type", content_type), (b"Connection", b"close")]
        head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%s: %s\r\n" % line for line in lines) + b"\r\n"
        await self._connection.hijack(head)
        return self._connection.sock


def decode_object(body: bytes) -> dict[str, Any]:
    """JSON from outside, not deeper than 128 levels. Raises InvalidArgument."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid JSON: the request body must be an object")
    _bound(value)
    return value


def _bound(value: Any) -> None:
    """What is stored and encoded again later must not be deeper than any encoder's recursion allows."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner for item in level for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidArgument(f"invalid JSON: nested deeper than {_MAX_DEPTH} levels")
