"""unix(7) sockets in directories of any length: an address has room for 107 bytes of a path (a name below, for 80).

The way out is a descriptor: /proc/self/fd/N names what it refers to. Sockets are the caller's, open also after an
error. An OSError carries the path, and is of the kind that connect(2) and bind(2) mean (ConnectionRefusedError, …).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket


def connect(sock: _socket.socket, path: str) -> None:
    """connect(2) to a socket in the file system."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def connect_at(sock: _socket.socket, directory: int, name: str) -> None:
    """connect(2) to socket `name` in a directory that is open."""
    try:
        sock.connect(f"/proc/self/fd/{directory}/{name}")
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


def bind_at(sock: _socket.socket, directory: int, name: str) -> None:
    """bind(2): make the socket `name` in a directory that is open."""
    try:
        sock.bind(f"/proc/self/fd/{directory}/{name}")
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
