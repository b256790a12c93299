"""What a handler gives back when the answer is short: status, body, headers. Streams are written through the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from sampan.errors import Internal

_encode = msgspec.json.Encoder().encode

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


NO_CONTENT = Response(204)
NOT_MODIFIED = Response(304)
OK = Response(200)


def json(value: Any, status: int = 200) -> Response:
    return Response(status, encode(value), JSON)


def encode(value: Any) -> bytes:
    """One line of JSON, newline included, as Go's encoder writes it."""
    try:
        return _encode(value) + b"\n"
    except (TypeError, RecursionError) as error:
        raise Internal(f"an answer cannot be written as JSON: {error}") from error


def error(status: int, message: str) -> Response:
    """Docker's error body. 304 has no body (RFC 9110 section 15.4.5)."""
    return NOT_MODIFIED if status == 304 else json({"message": message}, status)
