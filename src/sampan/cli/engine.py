"""The engine as a command sees it: requests in, JSON out, errors as EngineError."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping

from sampan.cli.address import Address, connect
from sampan.cli.failure import ConnectionLost, EngineError
from sampan.cli.http import Body, Connection, Response

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

API_VERSION = (1, 50)
WARNING = "sampan-warning"
"""The header in which our engine says what Docker's answers have no place for."""

Query = Mapping[str, object]
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: bytes = b"") -> str:
    """Percent-encoding (RFC 3986 2.1) of everything but unreserved and `safe` characters."""
    kept = UNRESERVED.union(safe)
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def format_query(query: Query) -> str:
    """`a=1&b=x`: None and False are left out, True is 1, lists repeat, dicts are JSON."""
    parts = []
    for key, value in query.items():
        if value is None or value is False:
            continue
        for item in value if isinstance(value, list | tuple) else (value,):
            text = "1" if item is True else json.dumps(item) if isinstance(item, dict) else str(item)
            parts.append(f"{key}={quote(text)}")
    return "&".join(parts)


class Engine:
    """A client of one engine. Connects on first use; keeps one idle connection."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: Connection | None = None
        self.version: tuple[int, int] | None = None
        self.server_headers: dict[str, str] = {}

    def _connection(self) -> Connection:
        idle, self._idle = self._idle, None
        return idle if idle is not None and idle.is_quiet() else Connection(connect(self.address))

    def negotiate(self) -> str:
        """The path prefix of the newest API version both sides have ("/v1.47"); asks the engine once."""
        if self.version is None:
            response = self._connection().request("HEAD", "/_ping", {})
            self._finish(response)
            self.server_headers = response.headers
            major, _, minor = response.headers.get("api-version", "1.24").partition(".")
            theirs = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (1, 24)
            self.version = min(API_VERSION, theirs)
        return "/v{}.{}".format(*self.version)

    def _finish(self, response: Response) -> None:
        if response.keeps_connection:
            self._idle = response.connection
        else:
            response.close()

    def open(
        self, method: str, path: str, query: Query | None = None, body: Body = None,
        headers: Mapping[str, str] | None = None, json_body: object = None,
    ) -> Response:
        """Sends a request; the answer's body is still to be read. Raises EngineError for statuses from 400 on."""
        fields = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body, separators=(",", ":")).encode()
            fields["Content-Type"] = "application/json"
        prefix = self.negotiate()
        text = format_query(query or {})
        target = f"{prefix}{quote(path, b'/:@')}{'?' if text else ''}{text}"
        response = self._connection().request(method, target, fields, body)
        if response.status >= 400:
            raise self._error(response)
        if WARNING in response.headers:
            text = response.headers[WARNING].encode("latin-1").decode("utf-8", "replace")
            print(f"WARNING: {text}", file=sys.stderr)
        return response

    def _error(self, response: Response) -> EngineError:
        try:
            text = response.read().decode("utf-8", "replace").strip()
        except ConnectionLost:
            text = ""
        self._finish(response)
        try:
            message = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            message = text or f"{response.status} {response.reason}"
        return EngineError(response.status, str(message).strip())

    def call(
        self, method: str, path: str, query: Query | None = None, json_body: object = None, body: Body = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """A request with a short answer: its JSON, or None when there is none. A 304 is no error."""
        response = self.open(method, path, query, body=body, headers=headers, json_body=json_body)
        data = response.read()
        self._finish(response)
        return json.loads(data) if data.strip() else None

    def get(self, path: str, query: Query | None = None) -> Any:
        """GET and decode."""
        return self.call("GET", path, query)

    def post(self, path: str, query: Query | None = None, json_body: object = None) -> Any:
        """POST and decode."""
        return self.call("POST", path, query, json_body)

    def delete(self, path: str, query: Query | None = None) -> Any:
        """DELETE and decode."""
        return self.call("DELETE", path, query)

    def messages(self, response: Response) -> Iterator[dict[str, Any]]:
        """The JSON objects of a streamed answer, one by one."""
        for line in response.lines():
            yield json.loads(line)
        self._finish(response)

    def hijack(self, path: str, query: Query | None = None, json_body: object = None) -> Hijacked:
        """POST that turns the connection into a raw stream (attach, exec start)."""
        fields = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "text/plain"}
        response = self.open("POST", path, query, headers=fields, json_body=json_body)
        sock, leftover = response.hijack()
        return Hijacked(sock, leftover, response.headers.get("content-type", ""))


class Hijacked:
    """A connection taken over: the socket, bytes that came with the answer's head, and the stream's media type."""

    __slots__ = ("leftover", "media_type", "sock")

    def __init__(self, sock: socket.socket, leftover: bytes, media_type: str) -> None:
        self.sock = sock
        self.leftover = leftover
        self.media_type = media_type
