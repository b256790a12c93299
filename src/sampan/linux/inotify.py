"""inotify(7): to be woken when a file or directory changes."""

from __future__ import annotations

import ctypes
import os

from sampan.linux import libc

IN_MODIFY = 0x002
IN_MOVED_TO = 0x080
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400

_init1 = libc.lib.inotify_init1
_add_watch = libc.lib.inotify_add_watch


class Inotify:
    """A descriptor (`fd`, for poll) that becomes readable when something that is watched changes."""

    def __init__(self) -> None:
        """Raises OSError (EMFILE: fs.inotify.max_user_instances)."""
        self.fd: int = _init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
        if self.fd < 0:
            raise libc.error("inotify")

    def watch(self, dir_fd: int, mask: int) -> None:
        """Watch an open directory, or its entries, for the events of `mask`. Needs /proc. Raises OSError."""
        path = f"/proc/self/fd/{dir_fd}"
        if _add_watch(ctypes.c_int(self.fd), path.encode(), ctypes.c_uint32(mask)) < 0:
            raise libc.error(path)

    def clear(self) -> None:
        """Take all events that are waiting; what happened is to be looked up."""
        try:
            while os.read(self.fd, 65536):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
