"""The console socket: a runtime makes the container's terminal and sends its near end over it.

runc's docs/terminals.md, "Detached new terminal": a stream socket, one message, one descriptor.
"""

from __future__ import annotations

import array
import os
import select
import socket
import stat

from sampan.errors import Internal
from sampan.linux import unix_socket

_MAX_NAME = 4096


class ConsoleSocket:
    """RUN/NAME, listening; only its owner can reach it. `sock` is readable when the runtime has connected."""

    def __init__(self, directory: int, name: str) -> None:
        """`directory` is RUN. Raises OSError."""
        self.name = name
        self._directory = directory
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            unix_socket.bind_at(self.sock, directory, name)
            self.sock.listen(1)
        except BaseException:
            self.sock.close()
            raise

    @property
    def called(self) -> bool:
        """Whether the runtime has connected: it need not wait for us, and may have ended since."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def receive(self, patience: float) -> int:
        """The terminal's near end. Raises Internal for anything else, TimeoutError after `patience` seconds."""
        self.sock.settimeout(patience)
        connection, _ = self.sock.accept()
        with connection:
            connection.settimeout(patience)
            _, ancillary, _, _ = connection.recvmsg(_MAX_NAME, socket.CMSG_SPACE(4 * 4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) == 1 and stat.S_ISCHR(os.fstat(fds[0]).st_mode) and os.isatty(fds[0]):
            return fds[0]
        for fd in fds:
            os.close(fd)
        raise Internal("the runtime sent no terminal over the console socket")

    def close(self) -> None:
        self.sock.close()
        try:
            os.unlink(self.name, dir_fd=self._directory)
        except FileNotFoundError:
            pass
