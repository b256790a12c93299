"""Directories that one engine has for itself: what it does not know in them, it takes for its own remains."""

from __future__ import annotations

import fcntl
import os

from sampan.errors import Conflict


def take(directory: str, taken: str) -> int:
    """Make `directory` and lock it, until the descriptor that is returned is closed; the kernel does so at our end.

    Raises Conflict with the words `taken` when another engine has it.
    """
    while True:
        os.makedirs(directory, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(directory)):
                return fd
        except FileNotFoundError:
            pass  # removed by the one who held it until now
        except BlockingIOError as error:
            os.close(fd)
            raise Conflict(taken) from error
        os.close(fd)
