"""A user at a terminal: types, waits for what appears, changes the window's size, reads the exit code."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    """A command on a pseudo terminal of its own. `text` is all that appeared, without control sequences."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], rows: int, columns: int) -> None:
        self.text = ""
        self._seen = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, dict(environment))
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))  # sends SIGWINCH, too

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, pattern: str, seconds: float = 20) -> str:
        """What appeared up to and with `pattern`, after what was expected before; "" when it does not come in time."""
        deadline = time.monotonic() + seconds
        while True:
            if found := re.compile(pattern, re.MULTILINE).search(self.text, self._seen):
                new = self.text[self._seen : found.end()]
                self._seen = found.end()
                return new
            if not self._read(deadline):
                return ""

    def close(self, seconds: float = 20) -> int:
        """Wait for the command's end; its exit code. After that time it is killed."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        pidfd = os.pidfd_open(self.pid)
        if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(self.pid, signal.SIGKILL)
        os.close(pidfd)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.text += CONTROL.sub("", data.decode(errors="replace"))
        return bool(data)
