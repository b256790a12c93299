"""Signals as something to poll for."""

from __future__ import annotations

import os
import signal
from types import TracebackType

# Never passed on: they are about this process (job control of its children, its pipes, its terminal's size), or they
# cannot be caught.
OWN = {
    signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGKILL, signal.SIGSTOP, signal.SIGWINCH, signal.SIGSEGV,
    signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPROF,
}
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def name_of(number: int) -> str:
    """The API's word for a signal: TERM, RTMIN+3 as its number."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def passed_on() -> list[int]:
    """All signals that a proxy passes on."""
    return [number for number in signal.valid_signals() if number not in OWN]


class SignalPipe:
    """While entered, the `wanted` signals do nothing but arrive at `fd`; `take` gives their numbers."""

    def __init__(self, wanted: list[int]) -> None:
        self._wanted = wanted
        self._before: dict[int, object] = {}
        self._write = -1
        self.fd = -1

    def __enter__(self) -> SignalPipe:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._wanted:
            self._before[number] = signal.signal(number, _nothing)
        return self

    def take(self) -> list[int]:
        """The signals that arrived, in order."""
        try:
            return list(os.read(self.fd, 512))
        except BlockingIOError:
            return []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write)


def _nothing(number: int, frame: object) -> None:
    """The byte in the wakeup pipe is all that is needed."""
