"""Netlink sockets: messages, attributes, acknowledgements, dumps (netlink(7), linux/netlink.h).

A request is a value (`Request`), so that several can go to the kernel in one system call. The kernel works through
them inside the send: when it returns, the answers are already queued, and nothing here waits for anybody.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_RECEIVE = 1 << 18  # the kernel makes dump messages of at most 32 KiB
_MAX_MESSAGE = 1 << 16
_DUMP_TRIES = 8


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel; `what` says in an error's text what was asked for."""

    kind: int
    flags: int
    body: bytes
    what: str


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes.

    Raises OverflowError when the payload does not fit its 16-bit length: a length that wraps turns the rest of the
    payload into attributes of the sender's choice (CVE-2021-43784).
    """
    length = len(payload) + 4
    if length > 0xFFFF:
        raise OverflowError(f"a netlink attribute of {length} bytes is larger than the 65535 bytes it can have")
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    """An unsigned 32-bit attribute in host order. Raises struct.error out of range."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute. Raises ValueError on a NUL inside."""
    data = os.fsencode(value)
    if b"\0" in data:
        raise ValueError("a netlink string cannot contain NUL")
    return attribute(kind, data + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type, flags stripped; of a repeated type the last. Raises OSError(EBADMSG) if cut short."""
    found: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or length > end - offset:
            raise OSError(errno.EBADMSG, "netlink attribute with a wrong length")
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def string(data: bytes) -> str:
    """The text of a string attribute."""
    return os.fsdecode(data.split(b"\0", 1)[0])


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the kernel; `body` is what follows its header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram. Raises OSError(EBADMSG) if one is cut short."""
    offset, end = 0, len(data)
    while end - offset >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or length > end - offset:
            raise OSError(errno.EBADMSG, "netlink message with a wrong length")
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


class NetlinkSocket:
    """A netlink socket. It belongs for ever to the network namespace it was made in, wherever its user goes."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._sock.bind((0, 0))
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                self._sock.setsockopt(_SOL_NETLINK, option, 1)
        except BaseException:
            self._sock.close()
            raise
        self._sequence = 0

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()

    def run(self, *requests: Request) -> None:
        """Send the requests in one call and wait for the last one's acknowledgement.

        The kernel goes on after a failed request. Raises the first failure as OSError, its text being what was
        asked for and the kernel's own explanation.
        """
        if not requests:
            return
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(requests)
        packed = [
            _pack(request, request.flags | (NLM_F_ACK if first + i == last else 0), first + i)
            for i, request in enumerate(requests)
        ]
        self._sock.sendall(b"".join(packed))
        failure: OSError | None = None
        while True:
            for message in self._receive():
                if message.kind != _NLMSG_ERROR or not first <= message.sequence <= last:
                    continue
                failure = failure or _failure(message, requests[message.sequence - first].what)
                if message.sequence == last:
                    if failure is not None:
                        raise failure
                    return

    def dump(self, request: Request) -> list[bytes]:
        """The bodies of all messages of a dump, taken again if the kernel's tables changed meanwhile."""
        for _ in range(_DUMP_TRIES):
            bodies = self._dump(request)
            if bodies is not None:
                return bodies
        raise OSError(errno.EAGAIN, f"{request.what}: changed all the time while it was read")

    def _dump(self, request: Request) -> list[bytes] | None:
        self._sequence += 1
        sequence = self._sequence
        self._sock.sendall(_pack(request, request.flags | NLM_F_DUMP, sequence))
        bodies: list[bytes] = []
        torn = False
        while True:
            for message in self._receive():
                if message.sequence != sequence:
                    continue
                torn |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    failure = _failure(message, request.what)
                    if failure is not None:
                        raise failure
                    return None if torn else bodies
                bodies.append(message.body)

    def _receive(self) -> Iterator[Message]:
        data = self._sock.recv(_RECEIVE)
        if len(data) == _RECEIVE:
            raise OSError(errno.EMSGSIZE, "netlink message larger than its buffer")
        return messages(data)


def _pack(request: Request, flags: int, sequence: int) -> bytes:
    length = _HEADER.size + len(request.body)
    if length > _MAX_MESSAGE:
        raise OverflowError(f"{request.what}: a netlink message of {length} bytes is too large")
    header = _HEADER.pack(length, request.kind, flags | NLM_F_REQUEST, sequence, 0)
    return header + request.body + b"\0" * (-length & 3)


def _failure(message: Message, what: str) -> OSError | None:
    """The error an NLMSG_ERROR or NLMSG_DONE carries, None for success."""
    if len(message.body) < _ERROR.size:
        return None
    code = -_ERROR.unpack_from(message.body)[0]
    if code <= 0:
        return None
    reason = os.strerror(code)
    explanation = _explanation(message)
    return OSError(code, f"{what}: {explanation} ({reason})" if explanation else f"{what}: {reason}")


def _explanation(message: Message) -> str:
    """The extended acknowledgement's text. It follows the error code and, for errors, the request's header
    (NETLINK_CAP_ACK leaves its payload out)."""
    if not message.flags & NLM_F_ACK_TLVS:
        return ""
    start = _ERROR.size + (_HEADER.size if message.kind == _NLMSG_ERROR else 0)
    return string(attributes(message.body[start:]).get(_NLMSGERR_ATTR_MSG, b""))
