"""procfs by descriptor: what is written under /proc must land on a real procfs, in the file that was meant.

A container may hold anything at /proc: a volume with a file called self/attr/exec (CVE-2019-16884), a symlink, a mount
over one entry (CVE-2025-52881). So each file is opened below a root that was seen to be procfs's own, without crossing
a mount, and is seen to be procfs's itself before anything is written.
"""

from __future__ import annotations

import errno
import os

from sampan.lean import ctypes
from sampan.linux import libc, mount, paths

PROC_SUPER_MAGIC = 0x9FA0
_ROOT_INODE = 1  # PROC_ROOT_INO
_BELOW = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS | paths.RESOLVE_NO_XDEV

_fstatfs = libc.lib.fstatfs


def magic(fd: int) -> int:
    """The file system's type (fstatfs(2), f_type) of what `fd` is. Raises OSError."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs: 120 bytes on 64-bit machines
    if _fstatfs(ctypes.c_int(fd), buffer) != 0:
        raise libc.error("fstatfs")
    return ctypes.c_long.from_buffer(buffer).value


def verify_root(fd: int, path: str = "/proc") -> None:
    """Raises OSError ENODEV unless `fd` is the root directory of a procfs."""
    if magic(fd) != PROC_SUPER_MAGIC or os.fstat(fd).st_ino != _ROOT_INODE:
        raise OSError(errno.ENODEV, "is not the root of a procfs", path)


def open_root() -> int:
    """What is at /proc, verified. The caller closes it. Raises OSError."""
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        verify_root(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def private(whole: bool = False) -> int:
    """A procfs of our own that is mounted nowhere; without `whole` it has processes only (no /proc/sys).

    Nobody can have mounted anything into it. Where we may not make one (an ordinary user, Linux before 5.2) it is
    what is at /proc, verified. The caller closes it. Raises OSError.
    """
    try:
        return mount.new("proc", {} if whole else {"subset": "pid"})
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
            raise
    return open_root()


def open_below(root: int, path: str, flags: int) -> int:
    """A file of the procfs whose root is `root`, by a relative path; no mount is crossed, no magic link followed.

    The caller closes it. Raises OSError with the path: EXDEV when something is mounted over it.
    """
    verify_root(root)
    fd = paths.openat2(root, path, flags, resolve=_BELOW)
    if magic(fd) != PROC_SUPER_MAGIC:
        os.close(fd)
        raise OSError(errno.ENODEV, "is not on a procfs", f"/proc/{path}")
    return fd


def read_own(root: int, name: str, limit: int = 4096) -> bytes:
    """The content, up to `limit` bytes, of a file in the calling thread's directory ("setgroups"). Raises OSError."""
    fd = open_below(root, f"thread-self/{name}", os.O_RDONLY)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def write_own(root: int, name: str, data: bytes) -> None:
    """Write, in one write(2), a file in the calling thread's directory ("attr/exec"). Raises OSError with its path."""
    fd = open_below(root, f"thread-self/{name}", os.O_WRONLY)
    try:
        os.write(fd, data)
    except OSError as error:
        error.filename = f"/proc/thread-self/{name}"
        raise
    finally:
        os.close(fd)
