"""What is deleted: in a layer's tar (image-spec layer.md: `.wh.` files) and in overlayfs (kernel's overlayfs.rst)."""

from __future__ import annotations

import errno
import os
import stat

PREFIX = b".wh."
RESERVED = b".wh..wh."
OPAQUE = b".wh..wh..opq"
_OPAQUE_XATTR = "trusted.overlay.opaque"


def is_whiteout(status: os.stat_result) -> bool:
    """overlayfs' whiteout: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_at(directory: int, name: bytes) -> bool:
    try:
        return is_whiteout(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def make(directory: int, name: bytes) -> None:
    """Hide `name` of the layers below. What this layer itself has there stays, and hides it already."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
    except FileExistsError:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            set_opaque(fd)
        finally:
            os.close(fd)


def set_opaque(directory: int) -> None:
    """Hide all that the layers below have in this directory."""
    os.setxattr(directory, _OPAQUE_XATTR, b"y")


def is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE_XATTR) == b"y"
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return False
