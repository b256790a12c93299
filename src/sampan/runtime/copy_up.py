"""tmpcopyup: a fresh tmpfs starts with what the image has in the directory that it covers."""

from __future__ import annotations

import errno
import os
import stat

from sampan.linux import paths

# One component, taken as it is; unlike paths.ONE_STEP it may be a mount point, which is copied as what it shows.
_STEP = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS | paths.RESOLVE_NO_SYMLINKS
_DEEPEST = 400  # directories below each other; two descriptors are held for each
_CHUNK = 1 << 20


def copy(source: int, goal: int) -> None:
    """Copy all that is in the directory `source` into the empty directory `goal` (fds, O_PATH will do), with mode,
    owner, times and extended attributes; the directory's own owner too. Links are copied as links, devices as nodes.

    Raises OSError with the name; ENOSPC when the tmpfs is too small for it.
    """
    reading = paths.openat2(source, ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_STEP)
    top = -1
    try:
        top = paths.openat2(goal, ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_STEP)
        _directory(reading, top, 0)
        status = os.fstat(reading)
        os.chown(top, status.st_uid, status.st_gid)
        _times(top, status)
    finally:
        for fd in (reading, top):
            if fd >= 0:
                os.close(fd)


def _directory(reading: int, goal: int, depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(errno.ELOOP, f"more than {_DEEPEST} directories below each other")
    with os.scandir(reading) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        try:
            _entry(reading, goal, name, depth)
        except OSError as error:
            error.filename = name if error.filename in (None, name) else f"{name}/{error.filename}"
            raise


def _entry(reading: int, goal: int, name: str, depth: int) -> None:
    status = os.stat(name, dir_fd=reading, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=reading), name, dir_fd=goal)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=goal, follow_symlinks=False)
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=goal, follow_symlinks=False)
    elif kind == stat.S_IFDIR:
        _below(reading, goal, name, status, depth)
    elif kind == stat.S_IFREG:
        _file(reading, goal, name, status)
    elif kind != stat.S_IFSOCK:  # a socket means nothing without the process that holds it
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=goal)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=goal, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=goal)


def _below(reading: int, goal: int, name: str, status: os.stat_result, depth: int) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    below = paths.openat2(reading, name, flags, resolve=_STEP)
    try:
        os.mkdir(name, 0o700, dir_fd=goal)
        made = paths.openat2(goal, name, flags, resolve=_STEP)
        try:
            _directory(below, made, depth + 1)
            _same(below, made, status)
        finally:
            os.close(made)
    finally:
        os.close(below)


def _file(reading: int, goal: int, name: str, status: os.stat_result) -> None:
    source = paths.openat2(reading, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, resolve=_STEP)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EAGAIN, "was replaced while it was copied", name)
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=goal)
        try:
            while os.sendfile(made, source, None, _CHUNK):
                pass
            _same(source, made, status)
        finally:
            os.close(made)
    finally:
        os.close(source)


def _same(source: int, made: int, status: os.stat_result) -> None:
    """Owner first: chown(2) takes the set-user-ID bit and file capabilities away."""
    os.chown(made, status.st_uid, status.st_gid)
    for attribute in os.listxattr(source):
        try:
            os.setxattr(made, attribute, os.getxattr(source, attribute))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):  # not every kind exists on a tmpfs
                raise
    os.chmod(made, stat.S_IMODE(status.st_mode))
    _times(made, status)


def _times(fd: int, status: os.stat_result) -> None:
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
