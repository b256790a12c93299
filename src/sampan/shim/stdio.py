"""A process's stdin, stdout and stderr: pipes or a terminal on one side, a log and clients on the other."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable

from sampan.shim.attached import Attached
from sampan.shim.log import LogFile
from sampan.shim.loop import BROKEN, WRITE, Loop
from sampan.shim.messages import ClientOptions

_CHUNK = 65536
_TERMINAL_HOLDS = 128 << 10  # more than the kernel buffers for a pty (TTYB_DEFAULT_MEM_LIMIT)
_INPUT_HIGH_WATER = 1 << 20


class Pipes:
    """The two ends of a process's stdio: `child` for it (0, 1, 2), the near ones for us; -1 for what there is not.

    With a terminal the child's are /dev/null, until the init stage opens the terminal and sends its near end.
    """

    def __init__(self, child: tuple[int, int, int], stdin: int, stdout: int, stderr: int) -> None:
        self.child = child
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    @classmethod
    def make(cls, tty: bool, open_stdin: bool) -> Pipes:
        if tty:
            fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            return cls((fd, fd, fd), -1, -1, -1)
        stdout, child_stdout = os.pipe2(os.O_CLOEXEC)
        stderr, child_stderr = os.pipe2(os.O_CLOEXEC)
        if open_stdin:
            child_stdin, stdin = os.pipe2(os.O_CLOEXEC)
        else:
            child_stdin, stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
        return cls((child_stdin, child_stdout, child_stderr), stdin, stdout, stderr)

    def close_child(self) -> None:
        for fd in set(self.child):
            os.close(fd)

    def close(self) -> None:
        """The process did not start: close everything."""
        self.close_child()
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)


class Stdio:
    """The near ends of a running process's stdio, and those who follow it.

    `console` is the near end of its terminal, -1 without one. Output is read when it comes: logged, and sent to every
    client that wants it; a client that lags far behind stops the reading, as Docker does, until it has caught up or
    left.
    """

    def __init__(
        self, loop: Loop, pipes: Pipes, console: int, stdin_once: bool, log: LogFile | None,
        clients: Iterable[tuple[socket.socket, ClientOptions]] = (),
    ) -> None:
        self._loop = loop
        self._log = log
        self._tty = console >= 0
        self._stdin_once = stdin_once
        self._clients: list[Attached] = []
        self._paused = False
        self._input = bytearray()
        self._input_ended = False
        self._stdin = console if self._tty else pipes.stdin
        self._sources = {console: "stdout"} if self._tty else {pipes.stdout: "stdout", pipes.stderr: "stderr"}
        for fd in {*self._sources, self._stdin} - {-1}:
            os.set_blocking(fd, False)
        for sock, options in clients:
            self.attach(sock, options)
        for fd in list(self._sources):
            self._follow(fd)

    @property
    def console(self) -> int:
        """The terminal's near end, -1 without one or after its end."""
        return self._stdin if self._tty else -1

    def attach(self, sock: socket.socket, options: ClientOptions) -> None:
        """Take a client. Raises InvalidArgument for bad detach keys."""
        self._clients.append(Attached(self._loop, sock, options, self._on_input, self._on_change))

    def drain(self) -> None:
        """The process has ended: take what is still in the pipes, without waiting, and close them.

        No more than they hold: others may have the same pipe and go on writing.
        """
        for fd in list(self._sources):
            left = _capacity(fd)
            while left > 0 and (count := self._read(fd)):
                left -= count
            self._end_source(fd)
        self._close_stdin()
        if self._log is not None:
            self._log.close()
            self._log = None

    def finish_clients(self) -> None:
        """Let each client go once it has everything."""
        for client in list(self._clients):
            client.finish()

    @property
    def has_clients(self) -> bool:
        return any(client.open for client in self._clients)

    def _follow(self, fd: int) -> None:
        if self._paused:
            self._loop.forget(fd)
        else:
            events = 1 | (WRITE if fd == self._stdin and self._input else 0)  # EPOLLIN
            self._loop.watch(fd, events, lambda events: self._on_source(fd, events))

    def _on_source(self, fd: int, events: int) -> None:
        if events & WRITE:
            self._flush_input()
        if events & (1 | BROKEN) and fd in self._sources and not self._read(fd) and events & BROKEN:
            self._end_source(fd)

    def _read(self, fd: int) -> int:
        """Read once. Returns how many bytes, 0 when there is nothing, now or ever."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the terminal's last user has gone
            data = b""
        if not data:
            return 0
        stream = self._sources[fd]
        if self._log is not None:
            self._log.write(stream, data)
        for client in self._clients:
            if client.wants(stream):
                client.send(stream, data)
        self._on_change()
        return len(data)

    def _end_source(self, fd: int) -> None:
        if self._sources.pop(fd, None) is None:
            return
        self._loop.forget(fd)
        if fd == self._stdin:
            self._stdin = -1
        os.close(fd)

    def _on_change(self) -> None:
        """A client was fed, caught up, or left: go on reading, or wait."""
        self._clients = [client for client in self._clients if client.open]
        paused = any(client.lagging for client in self._clients)
        if paused != self._paused:
            self._paused = paused
            for fd in self._sources:
                self._follow(fd)

    def _on_input(self, client: Attached, data: bytes) -> None:
        if not data:
            if not self._tty and self._stdin_once:
                self._input_ended = True
                self._flush_input()
            return
        self._input += data
        self._flush_input()
        if len(self._input) > _INPUT_HIGH_WATER:
            client.pause_input(True)

    def _flush_input(self) -> None:
        if self._stdin < 0:
            return
        try:
            while self._input:
                written = os.write(self._stdin, self._input)
                del self._input[:written]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more
            self._input.clear()
            self._close_stdin()
            return
        if not self._input:
            for client in self._clients:
                client.pause_input(False)
            if self._input_ended:
                self._close_stdin()
                return
        self._watch_stdin()

    def _watch_stdin(self) -> None:
        if self._stdin in self._sources:
            self._follow(self._stdin)
        elif self._input:
            self._loop.watch(self._stdin, WRITE, lambda events: self._flush_input())
        else:
            self._loop.forget(self._stdin)

    def _close_stdin(self) -> None:
        if self._stdin >= 0 and self._stdin not in self._sources:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1


def _capacity(fd: int) -> int:
    """How many bytes a pipe can hold, or a terminal (which does not say)."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except OSError:
        return _TERMINAL_HOLDS
