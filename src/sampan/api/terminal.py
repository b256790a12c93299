"""Connections that stop being HTTP: a client's socket on its way to a container's stdio."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
from collections.abc import Mapping
from typing import Any

from sampan.api.call import Call
from sampan.errors import InvalidArgument
from sampan.shim.messages import AttachedClient, ClientOptions

STDERR = 2  # stream number of a multiplexed frame
_HEADER = struct.Struct(">BxxxL")  # stream, three zero bytes, length of the payload


async def take(call: Call, tty: bool, options: ClientOptions) -> AttachedClient:
    """Hijack the call's connection for a client of a terminal (raw bytes) or of pipes (multiplexed frames)."""
    sock, leftover = await call.hijack(multiplexed=not tty)
    options.tty = tty
    options.leftover = base64.b64encode(leftover).decode()
    return AttachedClient(sock, options)


def tell(sock: socket.socket, tty: bool, message: str) -> None:
    """The last words on a hijacked connection, as container output: there is no status left to say it with."""
    text = message.encode() + b"\r\n"
    with contextlib.suppress(OSError):
        sock.send(text if tty else _HEADER.pack(STDERR, len(text)) + text)


def console_size(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """`ConsoleSize`: [height, width]; None when absent. Raises InvalidArgument."""
    size = body.get("ConsoleSize")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(type(it) is int and 0 <= it <= 0xFFFF for it in size):
        raise InvalidArgument("invalid ConsoleSize: expected [height, width]")
    return size[0], size[1]


def window(call: Call) -> tuple[int, int]:
    """Height and width of a resize request. Raises InvalidArgument."""
    height, width = call.query.integer("h"), call.query.integer("w")
    for name, value in (("h", height), ("w", width)):
        if value is None or not 0 <= value <= 0xFFFF:
            raise InvalidArgument(f"invalid resize {'height' if name == 'h' else 'width'}: {call.query.text(name)!r}")
    assert height is not None and width is not None
    return height, width
