"""Staying with a container's process: `run` and `exec` without --detach.

    keyboard, pipe, file ──▶ stdin  ──▶ pty or pipe ──▶ the process
    screen,   pipe, file ◀── stdout ◀── pty or pipes ◀─┘
    signals to us        ──▶ signalfd ─▶ pidfd_send_signal
    its end              ◀── pidfd: its exit code is ours

What is no terminal is not relayed at all: the process gets our own stdin, stdout or stderr. A terminal it does not get:
whoever holds the user's terminal can read what is typed there and set its modes.
"""

from __future__ import annotations

import errno
import os
import select

from sampan.errors import Internal
from sampan.lean.record import dataclass, field
from sampan.linux import process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sampan.runtime.lifecycle.host_terminal import HostTerminal
    from sampan.runtime.lifecycle.notify import Relay

_NOT_PASSED_ON = (signals.SIGCHLD, signals.SIGWINCH, signals.SIGPIPE, signals.numbers()["SIGURG"])
_CHUNK = 4096  # PIPE_BUF: what poll(2) promises a pipe takes without blocking
_LAST_CHUNKS = 512  # reads and writes: more than a pipe or a pty can hold
# EIO: the last process has closed its end of the pty, or ours is in another's background. EPIPE: nobody reads any more.
_ENDED = (errno.EIO, errno.EPIPE, errno.ECONNRESET)


class Signals:
    """Every signal to this process waits at `fd` instead of ending it. From before the container is made: one that
    comes meanwhile reaches its program. Children that become programs must empty their signal mask.
    """

    def __init__(self) -> None:
        self._before = signals.pthread_sigmask(signals.SIG_SETMASK, signals.valid_signals())
        self.fd = signals.signalfd(signals.valid_signals())

    def __enter__(self) -> Signals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        signals.pthread_sigmask(signals.SIG_SETMASK, self._before)

    def take(self) -> list[int]:
        """The signals that have come, in the kernel's order."""
        return signals.take(self.fd)


@dataclass
class Pump:
    """Bytes from one descriptor to another, at most `_CHUNK` in hand: who is slow slows the other down.

    `own`: a pipe's end of ours, closed when either side has ended, so that the other one hears of it: the program its
    end of file or SIGPIPE. `drops`: read on though nobody takes it, because the program would wait for a terminal.
    """

    source: int
    target: int
    own: int = -1
    drops: bool = False
    held: bytes = b""
    ended: bool = False
    lost: bool = False

    def waits_for(self) -> tuple[int, int]:
        """(descriptor, poll event)."""
        return (self.target, select.POLLOUT) if self.held else (self.source, select.POLLIN)

    def step(self) -> bool:
        """Read or write once. False when nothing could be done now."""
        try:
            if self.held:
                self._write()
            else:
                chunk = os.read(self.source, _CHUNK)
                self.ended = not chunk
                self.held = b"" if self.lost else chunk
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _ENDED:
                raise
            self.ended = True
        if self.ended and self.own >= 0:
            os.close(self.own)
            self.own = -1
        return not self.ended

    def _write(self) -> None:
        try:
            self.held = self.held[os.write(self.target, self.held) :]
        except BlockingIOError:
            raise
        except OSError:
            self.held = b""
            if not self.drops:
                raise
            self.lost = True

    def drain(self) -> None:
        """Pass on what is there, wait for nothing more: the program has ended, what it left running may write on."""
        for _ in range(_LAST_CHUNKS):
            if self.ended or not self.step():
                return


@dataclass
class Stdio:
    """What the process gets as stdin, stdout and stderr, and our ends of those that are pipes."""

    given: tuple[int, int, int] = (0, 1, 2)
    pumps: list[Pump] = field(default_factory=list)
    made: list[int] = field(default_factory=list)

    @classmethod
    def without_terminals(cls) -> Stdio:
        """Our own, with a pipe in the place of each that is a terminal."""
        stdio = cls()
        given = [0, 1, 2]
        for fd in (0, 1, 2):
            if os.isatty(fd):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                ours, theirs = (writing, reading) if fd == 0 else (reading, writing)
                os.set_blocking(ours, False)
                given[fd] = theirs
                stdio.made.append(theirs)
                stdio.pumps.append(Pump(0, ours, ours) if fd == 0 else Pump(ours, fd, ours))
        stdio.given = given[0], given[1], given[2]
        return stdio

    def started(self) -> None:
        """The process has its ends: close ours of them, or no end of file would ever come."""
        for fd in self.made:
            os.close(fd)
        self.made = []


@dataclass
class Attached:
    """A process, our child, and what connects it with us. `console` is the near end of its terminal or -1. `relay`: it
    says when it is ready; the service manager then watches us, who stay as long as it does.
    """

    pid: int
    pidfd: int
    stdio: Stdio
    console: int = -1
    terminal: HostTerminal | None = None
    relay: Relay | None = None

    def follow(self, arriving: Signals) -> int:
        """Relay and pass signals on until it ends. Returns its exit code; 128 + n when signal n ended it.

        Other children that come to us (orphans of the container, when we are their subreaper) are reaped.
        """
        self.stdio.started()
        pumps = self._pumps()
        code = None
        while code is None:
            self._wait(pumps, arriving)
            for pump in pumps:
                if not pump.ended and _is_ready(*pump.waits_for()):
                    pump.step()
            for number in arriving.take():
                self._pass_on(number)
            if self.relay is not None:
                self.relay.pass_on(os.getpid())
            code = self._reap()
        for pump in pumps:
            if pump.source != 0:
                pump.drain()
        return code

    def _pumps(self) -> list[Pump]:
        if self.console < 0:
            return self.stdio.pumps
        os.set_blocking(self.console, False)
        if self.terminal is not None:
            self.terminal.show_size_to(self.console)
            self.terminal.raw()
        return [Pump(0, self.console), Pump(self.console, 1, drops=True)]

    def _wait(self, pumps: list[Pump], arriving: Signals) -> None:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        poll.register(arriving.fd, select.POLLIN)
        if self.relay is not None:
            poll.register(self.relay.sock, select.POLLIN)
        wanted: dict[int, int] = {}
        for pump in pumps:
            if not pump.ended:
                fd, event = pump.waits_for()
                wanted[fd] = wanted.get(fd, 0) | event
        for fd, events in wanted.items():
            poll.register(fd, events)
        poll.poll()

    def _pass_on(self, number: int) -> None:
        if number == signals.SIGWINCH and self.terminal is not None and self.console >= 0:
            self.terminal.show_size_to(self.console)
        elif number not in _NOT_PASSED_ON:
            try:
                signals.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass  # it has just ended

    def _reap(self) -> int | None:
        """Take the exits of all children that have ended; the exit code if ours is among them."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if code is None and _is_ready(self.pidfd, select.POLLIN):
                    raise Internal(f"the exit of process {self.pid} was taken by somebody else") from None
                return code
            if pid == 0:
                return code
            if pid == self.pid:
                ended = os.waitstatus_to_exitcode(status)
                code = ended if ended >= 0 else 128 - ended


def _is_ready(fd: int, event: int) -> bool:
    """Hang-ups and errors count: the step then meets them."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def be_subreaper() -> None:
    """Orphans of the container's processes come to us (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
