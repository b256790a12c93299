"""A client's connection to a container's stdio, held by the shim: framing, detach keys, half-close, back-pressure."""

from __future__ import annotations

import base64
import binascii
import socket
import struct
from collections.abc import Callable

from sampan.shim import detach
from sampan.shim.loop import BROKEN, READ, WRITE, Loop
from sampan.shim.messages import ClientOptions

HIGH_WATER = 1 << 20  # bytes a client may lag behind before the container's output waits for it
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}


class Attached:
    """One client. `on_input` gets its stdin, b"" at its end; `on_change` is called when it lags less or is gone."""

    def __init__(
        self, loop: Loop, sock: socket.socket, options: ClientOptions,
        on_input: Callable[[Attached, bytes], None], on_change: Callable[[], None],
    ) -> None:
        self.options = options
        self.detached = False
        self._loop = loop
        self._sock = sock
        self._on_input = on_input
        self._on_change = on_change
        self._out = bytearray()
        self._reading = True
        self._finishing = False
        self._scanner = detach.Scanner(detach.parse(options.detach_keys)) if options.tty and options.stdin else None
        sock.setblocking(False)
        self._watch()
        early = _early(options)
        if early:
            self._input(early)

    @property
    def open(self) -> bool:
        return self._sock.fileno() >= 0

    @property
    def lagging(self) -> bool:
        return len(self._out) > HIGH_WATER

    def wants(self, stream: str) -> bool:
        return self.open and not self._finishing and (
            self.options.stderr if stream == "stderr" and not self.options.tty else self.options.stdout
        )

    def send(self, stream: str, data: bytes) -> None:
        """Queue output; what fits goes at once."""
        if not self.options.tty:  # Docker's multiplexed stream: kind, three zeros, length (big endian)
            self._out += struct.pack(">BxxxI", _STREAMS[stream], len(data))
        self._out += data
        self._flush()

    def pause_input(self, paused: bool) -> None:
        """Stop or go on reading the client's stdin, while the container does not read its own."""
        if self.open and self._reading:
            self._watch(paused)

    def finish(self) -> None:
        """Close once everything queued has been sent."""
        self._finishing = True
        self._flush()

    def close(self) -> None:
        if self.open:
            self._loop.forget(self._sock.fileno())
            self._hang_up()
            self._on_change()

    def _hang_up(self) -> None:
        """Close so that the client reads what it was sent and then the end.

        Closing a unix socket that still holds input resets the connection: so nothing more may come, and what has come
        is taken first.
        """
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
            while self._sock.recv(65536):
                pass
        except OSError:
            pass  # the client has gone already, or had sent nothing
        self._sock.close()

    def _watch(self, paused: bool = False) -> None:
        events = (READ if self._reading and not paused else 0) | (WRITE if self._out else 0)
        self._loop.watch(self._sock.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & BROKEN and not events & READ:
            self._lost()
            return
        if events & WRITE:
            self._flush()
        if self.open and events & READ and self._reading:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if data:
            self._input(data)
            return
        self._reading = False  # half-close: the client has no more input, but wants the output
        if self.options.stdin:
            self._on_input(self, b"")
        if self.open:
            self._watch()

    def _lost(self) -> None:
        """The client went away without a word: its input has ended too."""
        self.close()
        if self._reading and self.options.stdin:
            self._on_input(self, b"")

    def _input(self, data: bytes) -> None:
        if not self.options.stdin:
            return
        typed = False
        if self._scanner is not None:
            data, typed = self._scanner.feed(data)
        if data:
            self._on_input(self, data)
        if typed:
            self.detached = True
            self.close()

    def _flush(self) -> None:
        if not self.open:
            return
        lagged = self.lagging
        try:
            while self._out:
                sent = self._sock.send(self._out, socket.MSG_NOSIGNAL)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._finishing and not self._out:
            self.close()
            return
        self._watch()
        if lagged and not self.lagging:
            self._on_change()


def _early(options: ClientOptions) -> bytes:
    try:
        return base64.b64decode(options.leftover)
    except binascii.Error:
        return b""
