"""Where a created container's init stage waits: for the word of the runtime that made it, or of a later `start`.

    runtime ── {"start"} ──▶ go on at once (`run`)
            ── {"wait"} ───▶ accept(2) on start.sock until somebody says {"start"} (`create`, then `start`)
            ── end of file: it was killed before it wrote the container down: nobody would ever know of us: end

The connection over which {"start"} came takes the place of the first one: errors go there, and its end of file, at
execve, says that the program runs.
"""

from __future__ import annotations

import _socket
import os
import struct

from sampan.errors import InvalidArgument
from sampan.jobs import channel as wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

_PATIENCE = struct.pack("ll", 5, 0)  # struct timeval: for whoever connects and says nothing


def listen(listening: int) -> None:
    """Before anybody is told that we wait: whoever is told may connect at once."""
    listener = _socket.socket(fileno=listening)
    listener.listen(16)
    listener.detach()


def wait(sync: socket.socket, listening: int) -> None:
    """Return when the program may start. `listening` is a socket's descriptor; it listens already, and is closed."""
    received = wire.receive(sync)
    if received is None:
        os._exit(1)
    if "start" in received[0]:
        os.close(listening)
        return
    listener: Any = _socket.socket(fileno=listening)
    while True:
        connection: Any = _socket.socket(fileno=listener._accept()[0])
        said = _says_start(connection)
        if said:
            os.dup2(connection.fileno(), sync.fileno(), inheritable=False)
        connection.close()
        if said:
            break
    listener.close()


def _says_start(connection: socket.socket) -> bool:
    """Only who is outside may say it: a process of our own pid namespace would have a pid there (unix(7), SO_PEERCRED).

    Where the container shares the host's pid namespace, the directory's mode (0700) alone keeps others out.
    """
    pid, _, _ = struct.unpack("iII", connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
    if pid != 0 and os.getpid() == 1:
        return False
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _PATIENCE)
    try:
        received = wire.receive(connection)
    except (BlockingIOError, InvalidArgument):
        return False
    return received is not None and "start" in received[0]
