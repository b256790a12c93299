"""One attached stream: keys in, output out, signals and window sizes on the way. One poll loop, no threads."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from sampan.cli.attach.keys import DetachScanner
from sampan.cli.attach.signals import STOPPING, SignalPipe, name_of, passed_on
from sampan.cli.attach.stdcopy import SYSTEM_ERROR, Demultiplexer
from sampan.cli.attach.terminal import RawTerminal
from sampan.cli.engine import Hijacked
from sampan.cli.failure import CommandFailed, EngineError, Quit

BLOCK = 64 << 10
PENDING_LIMIT = 256 << 10
IMPATIENCE = 3


class Detached(Exception):
    """The user typed the detach keys: the container goes on."""


class Session:
    """What is attached to what.

    `stdin`: the descriptor to read, or None. `detach_keys`: b"" for none. `on_signal(name)` passes a signal on (None:
    they have their usual effect). `on_resize()` tells the engine the window's size.
    """

    def __init__(
        self, stream: Hijacked, *, tty: bool, stdin: int | None, stdout: bool = True, stderr: bool = True,
        detach_keys: bytes = b"", on_signal: Callable[[str], None] | None = None,
        on_resize: Callable[[], None] | None = None,
    ) -> None:
        self._sock: socket.socket = stream.sock
        self._leftover = stream.leftover
        self._frames = None if tty else Demultiplexer()
        self._stdin = stdin
        self._shown = {1: stdout, 2: stderr}
        self._scanner = DetachScanner(detach_keys if tty else b"")
        self._on_signal = on_signal
        self._on_resize = on_resize
        self._raw = tty and stdin is not None
        self._pending = b""
        self._input_open = stdin is not None
        self._stops = 0

    def run(self) -> None:
        """Until the engine closes the stream. Raises Detached."""
        wanted = passed_on() if self._on_signal else []
        if self._raw:
            # With the terminal raw, dying of a signal would leave it raw: these end the loop instead.
            wanted = sorted({*wanted, *STOPPING})
        if self._on_resize:
            wanted = [*wanted, signal.SIGWINCH]
        with self._sock, SignalPipe(wanted) as signals, RawTerminal(self._stdin if self._raw else None):
            self._sock.setblocking(False)
            self._half_close()
            self._loop(signals)

    def _loop(self, signals: SignalPipe) -> None:
        if self._leftover:
            self._show(self._leftover)
        while True:
            poll = select.poll()
            poll.register(signals.fd, select.POLLIN)
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._pending else 0))
            if self._stdin is not None and self._input_open and len(self._pending) < PENDING_LIMIT:
                poll.register(self._stdin, select.POLLIN)
            ready = dict(poll.poll())
            if signals.fd in ready:
                for number in signals.take():
                    self._signal(number)
            if self._sock.fileno() in ready and not self._socket(ready[self._sock.fileno()]):
                return
            if self._stdin is not None and self._stdin in ready:
                self._read_input()

    def _socket(self, events: int) -> bool:
        """Whether the stream goes on."""
        if events & select.POLLOUT:
            self._write()
        if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return True
        try:
            data = self._sock.recv(BLOCK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._show(data)
        return True

    def _read_input(self) -> None:
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, BLOCK)
        except OSError:
            data = b""  # the terminal has gone: as if its input had ended
        self._input_open = bool(data)
        data, detach = self._scanner.feed(data)
        self._pending += data
        self._write()
        if detach:
            raise Detached

    def _write(self) -> None:
        while self._pending:
            try:
                sent = self._sock.send(self._pending)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._pending, self._input_open = b"", False  # nobody reads any more; output may still come
                return
            self._pending = self._pending[sent:]
        self._half_close()

    def _half_close(self) -> None:
        """Once the input has ended and all of it is sent: the container's stdin ends, its output goes on."""
        if not self._input_open and not self._pending:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # already closed by the engine

    def _show(self, data: bytes) -> None:
        if self._frames is None:
            _write_all(1, data)
            return
        for stream, piece in self._frames.feed(data):
            if stream == SYSTEM_ERROR:
                raise CommandFailed(f"error from the engine in the stream: {piece.decode('utf-8', 'replace')}")
            if self._shown[stream]:
                _write_all(stream, piece)

    def _signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._on_resize:
                self._on_resize()
            return
        if self._on_signal is None:
            raise Quit(128 + number)
        if number in (signal.SIGINT, signal.SIGTERM):
            self._stops += 1
            if self._stops >= IMPATIENCE:
                print(f"\r\ngot {IMPATIENCE} SIGTERM/SIGINTs, forcefully exiting\r", file=sys.stderr)
                raise Quit(1)
        try:
            self._on_signal(name_of(number))
        except EngineError as error:
            if error.status not in (404, 409):  # it has ended meanwhile: the stream will say so
                print(f"Error response from daemon: {error}\r", file=sys.stderr)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            # Somebody made our stdout non-blocking (it can be shared with others): wait until it takes more.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
