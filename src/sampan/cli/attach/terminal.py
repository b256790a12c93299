"""The user's terminal: raw while a container's terminal is shown, restored whatever happens."""

from __future__ import annotations

import os
import termios
import tty
from types import TracebackType

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def window_size(fd: int) -> tuple[int, int]:
    """(height, width) in characters; (0, 0) when `fd` is no terminal or does not know."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return size.lines, size.columns


class RawTerminal:
    """A context in which the terminal `fd` passes every key on as it is. Does nothing for what is no terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        if self._fd is not None and os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None and self._saved is not None:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # the terminal itself has gone (the window was closed): nothing to restore
            self._saved = None
