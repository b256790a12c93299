"""One end of a SEQPACKET socket that carries JSON messages and file descriptors between Sampan's processes.

Unix sequenced packets keep message borders, so no framing is needed, and SCM_RIGHTS descriptors arrive with
the message they were sent with (unix(7)). A message is at most `MAX_MESSAGE` bytes of JSON.
"""

from __future__ import annotations

import _socket
import os
import struct
import sys

from sampan.errors import InvalidArgument
from sampan.lean import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from typing import Any

MAX_MESSAGE = 1 << 20
MAX_FDS = 64


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair with buffers large enough for the largest message. The caller closes both.

    In a program that has not loaded `socket` they are plain `_socket.socket`: no `with`, no `dup`, no `makefile`.
    """
    module: Any = sys.modules.get("socket", _socket)
    ours, theirs = module.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    widen(ours)
    widen(theirs)
    return ours, theirs


def widen(sock: socket.socket) -> None:
    """Let one message of `MAX_MESSAGE` bytes fit; root may pass the host's limit, others take what they get."""
    try:
        sock.setsockopt(_socket.SOL_SOCKET, 32, 2 * MAX_MESSAGE)  # SO_SNDBUFFORCE, needs CAP_NET_ADMIN
    except PermissionError:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 2 * MAX_MESSAGE)


def encode(message: dict[str, Any]) -> bytes:
    data = structs.encode(message)
    if len(data) > MAX_MESSAGE:
        raise InvalidArgument(f"a request of {len(data)} bytes is larger than the {MAX_MESSAGE} bytes allowed")
    return data


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message. Blocks if the socket does; BlockingIOError when a non-blocking one is full."""
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([encode(message)], ancillary, _socket.MSG_NOSIGNAL)


def _read(sock: socket.socket) -> tuple[bytes, list[Any], int]:
    """One message, asked first how long it is: room for the largest would be a megabyte of memory in every process."""
    length = sock.recv_into(bytearray(1), 1, _socket.MSG_PEEK | _socket.MSG_TRUNC)
    size = _socket.CMSG_SPACE(MAX_FDS * 4)
    data, ancillary, flags, _ = sock.recvmsg(min(length, MAX_MESSAGE) or 1, size, _socket.MSG_CMSG_CLOEXEC)
    return data, ancillary, flags


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message with its descriptors (close-on-exec, owned by the caller), None at the end.

    Raises BlockingIOError on an empty non-blocking socket, InvalidArgument on what is not a JSON object.
    """
    try:
        data, ancillary, flags = _read(sock)
    except ConnectionResetError:  # once, when the other side has ended without reading all; what it said is still there
        data, ancillary, flags = _read(sock)
    fds = _descriptors(ancillary)
    if not data:
        _close(fds)
        return None
    try:
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            raise InvalidArgument("a message between Sampan's processes was cut short")
        return structs.decode(data, type=dict), fds
    except structs.DecodeError as error:
        _close(fds)
        raise InvalidArgument(f"a message between Sampan's processes is not JSON: {error}") from error
    except InvalidArgument:
        _close(fds)
        raise


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += struct.unpack_from(f"{len(data) // 4}i", data)
    return fds


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
