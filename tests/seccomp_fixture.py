"""An agent that answers system calls for the kernel: what stands at listenerPath (seccomp_unotify(2))."""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND


class Agent:
    """What listens at listenerPath."""

    def __init__(self, path: str) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._listening.settimeout(20)
        self.fd = -1

    def accept(self) -> dict[str, object]:
        """Take in a listener; returns the container process state that came with it."""
        connection, _ = self._listening.accept()
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 4)
            while more := connection.recv(1 << 20):
                data += more
        (self.fd,) = fds
        found: dict[str, object] = json.loads(data)
        return found

    def answer(self, value: int = 0, error: int = 0, flags: int = 0) -> tuple[int, int]:
        """Wait for a call, answer it; returns who called (pid) and which (number)."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        assert poll.poll(10_000), "nobody called"
        asked = bytearray(80)
        fcntl.ioctl(self.fd, NOTIF_RECV, asked)
        number, pid = struct.unpack_from("=QI", asked)
        fcntl.ioctl(self.fd, NOTIF_SEND, bytearray(struct.pack("=QqiI", number, value, error, flags)))
        return pid, int(struct.unpack_from("=i", asked, 16)[0])

    def serve(self, value: int) -> set[int]:
        """Answer everything with `value` until no process is left under the filter; returns the numbers called."""
        called = set()
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while (ready := dict(poll.poll(20_000))) and not ready[self.fd] & select.POLLHUP:
            called.add(self.answer(value=value)[1])
        assert ready, "neither a call nor an end"
        return called

    def close(self) -> None:
        """Idempotent."""
        self._listening.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
