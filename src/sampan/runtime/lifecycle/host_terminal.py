"""The user's own terminal, at the near end of a container's."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios

from sampan.errors import Conflict
from sampan.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_IFLAG = (
    termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL
    | termios.IXON
)
_LFLAG = termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN


class HostTerminal:
    """The user's terminal: stderr, stdout or stdin, whichever is one, else the controlling terminal.

    A context manager: `raw` shows every key to the container; the end of the context puts back what was.
    """

    def __init__(self) -> None:
        """Raises OSError or Conflict when this process has no terminal at all."""
        self._saved: list[Any] | None = None
        self._own = -1
        for fd in (2, 1, 0):
            if os.isatty(fd):
                self.fd = fd
                return
        try:
            self._own = self.fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise Conflict("open /dev/tty: no such device or address: a terminal was asked for, here is none") from None

    def __enter__(self) -> HostTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # the terminal itself has gone (its window was closed): nothing to restore
        if self._own >= 0:
            os.close(self._own)

    def raw(self) -> None:
        """No echo, no lines, no signals by keys; the container's terminal does all that itself (termios(3))."""
        settings = termios.tcgetattr(self.fd)
        self._saved = list(settings)
        control = list(settings[6])
        control[termios.VMIN], control[termios.VTIME] = 1, 0
        changed = [
            settings[0] & ~_IFLAG, settings[1] & ~termios.OPOST,
            settings[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8, settings[3] & ~_LFLAG,
            settings[4], settings[5], control,
        ]
        termios.tcsetattr(self.fd, termios.TCSANOW, changed)

    def size(self) -> tuple[int, int]:
        """(rows, columns); zeros where nobody set them. Raises OSError when the terminal has gone."""
        height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(self.fd, termios.TIOCGWINSZ, bytes(8)))
        return height, width

    def show_size_to(self, master: int) -> None:
        """Give the container's terminal the size of this one; the kernel tells its foreground group (SIGWINCH)."""
        try:
            process.set_window_size(master, *self.size())
        except OSError:
            pass  # one of both has just gone: its end of file follows
