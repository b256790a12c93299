"""A program on a pseudo terminal, and somebody who reads and types."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

from peers.runtimes import PATIENCE


class Terminal:
    """Ends with the block: `with Terminal(["docker", "run", "-it", …]) as terminal:`."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, rows: int = 24, columns: int = 80
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.seen = ""
        self.process = subprocess.Popen(
            command, env={**(environment or os.environ), "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> None:
        """Wait until `text` came after what was expected before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            self._read(deadline)
        self.seen = self.seen.partition(text)[2]

    def line(self) -> str:
        """The rest of the line after what was expected before."""
        deadline = time.monotonic() + PATIENCE
        while "\n" not in self.seen:
            self._read(deadline)
        line, _, self.seen = self.seen.partition("\n")
        return line

    def wait(self) -> int:
        """The exit code, after everything was read."""
        deadline = time.monotonic() + PATIENCE
        try:
            while True:
                self._read(deadline)
        except EOFError:
            return self.process.wait(PATIENCE)

    def _read(self, deadline: float) -> None:
        if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"nothing more on the terminal, after {self.seen!r}")
        try:
            data = os.read(self.master, 1 << 16)
        except OSError as error:  # EIO: nobody has the other end any more
            raise EOFError(self.seen) from error
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
