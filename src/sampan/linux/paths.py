"""The one resolver for every path that a container, image, archive or build context can influence.

A path is never joined to a directory's name and handed to the kernel. It is resolved by openat2(2) below a directory
fd, the root: absolute paths and symlinks mean the root, `..` stops at it, and magic links (/proc/PID/root, fd/N) are
refused. Every OSError carries the path as it was asked for.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat as _stat

from sampan.lean import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AnyStr

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
#: one component, taken as it is: no symlink, no way up, no mount point
ONE_STEP = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV

MAX_LINKS = 40  # the kernel's own bound, path_resolution(7)
MAX_DEPTH = 200  # directory fds that remove_tree holds open at once
_EAGAIN_TRIES = 2000
_EMPTY_TRIES = 50
_SYS_OPENAT2 = 437  # the same number on every architecture but alpha
_MADE = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = IN_ROOT) -> int:
    """openat2(2), close-on-exec. The caller closes the fd.

    With `..` in a path the kernel answers EAGAIN when anything was renamed or mounted meanwhile, because it cannot
    prove the walk stayed below the root; asked again, it starts from the root. The tries are bounded: a container may
    rename without end.
    """
    name = os.fsencode(path)
    if b"\0" in name:  # C would see a shorter path than the one that was checked
        raise OSError(errno.EINVAL, "a path cannot hold a NUL byte", path)
    makes = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE  # O_TMPFILE holds the bit of O_DIRECTORY
    how = _OpenHow(flags | os.O_CLOEXEC, mode if makes else 0, resolve)
    size = ctypes.sizeof(how)
    for _ in range(_EAGAIN_TRIES):
        fd = int(_syscall(_SYS_OPENAT2, dir_fd, name, ctypes.byref(how), size))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, _reason(code, resolve), path)
    raise OSError(errno.EAGAIN, "the directories on the way keep being renamed", path)


def _reason(code: int, resolve: int) -> str:
    if code == errno.EXDEV and resolve & RESOLVE_NO_XDEV:
        return "a mount point or the way out of the directory is on the path"
    if code == errno.ELOOP:
        return "a symbolic link that may not be followed, or too many of them, is on the path"
    return os.strerror(code)


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` inside the root (`""` and `"/"`: the root itself). `mode` is masked by the umask, as in open(2)."""
    return openat2(root_fd, path or ".", flags, mode)


def open_parent(root_fd: int, path: AnyStr, follow: bool = False) -> tuple[int, AnyStr]:
    """The directory that holds the last component of `path`, and that component's name, which need not exist.

    For `*at(2)` calls with NOFOLLOW. The name is one component without a slash, never `..`; it is `.` if the path names
    the root or ends in `.` or `..`. With `follow` a symlink as last component is followed inside the root, to where it
    ends, even if nothing is there. The caller closes the fd.
    """
    text = os.fsencode(path)
    for _ in range(MAX_LINKS):
        head, _, name = text.rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            directory = open_in_root(root_fd, text, os.O_PATH | os.O_DIRECTORY)
            return directory, b"." if isinstance(path, bytes) else "."
        directory = _with_path(path, root_fd, head or b"/", os.O_PATH | os.O_DIRECTORY)
        target = _link_target(directory, name) if follow else None
        if target is None:
            return directory, name if isinstance(path, bytes) else os.fsdecode(name)
        os.close(directory)
        text = target if target.startswith(b"/") else head + b"/" + target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _with_path(asked: str | bytes, root_fd: int, path: bytes, flags: int) -> int:
    try:
        return open_in_root(root_fd, path, flags)
    except OSError as error:
        error.filename = asked
        raise


def _link_target(directory: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # not a symlink; nothing there
            return None
        os.close(directory)
        raise


def make_dirs(root_fd: int, path: str | bytes, mode: int = 0o755, uid: int = -1, gid: int = -1) -> None:
    """`ensure_dir` for those who do not need the directory's fd."""
    os.close(ensure_dir(root_fd, path, mode, uid, gid))


def ensure_dir(root_fd: int, path: str | bytes, mode: int = 0o755, uid: int = -1, gid: int = -1) -> int:
    """Make `path` and what is missing above it, inside the root; an O_PATH fd of it, which the caller closes.

    Symlinks on the way are followed inside the root, dangling ones too (what they point at is made). Only directories
    made here get `mode` (exactly) and owner (-1: the process's). Raises NotADirectoryError if something else is there.
    """
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _Walk(root_fd, path, (mode, uid, gid)).run()[0]


def real_path(root_fd: int, path: str) -> str:
    """The absolute path inside the root that `path` leads to, without symlinks; to be shown, not to be opened.

    What is missing at the end stays as it was asked for.
    """
    fd, found = _Walk(root_fd, path, None).run()
    os.close(fd)
    return "/" + os.fsdecode(found)


class _Walk:
    """The way down, one component at a time, no symlink ever followed by the kernel.

    `look` (mode, uid, gid) is for directories that are missing; without it they are not made.
    """

    def __init__(self, root_fd: int, path: str | bytes, look: tuple[int, int, int] | None) -> None:
        self._root, self._asked, self._look = root_fd, path, look
        self._todo = os.fsencode(path).split(b"/")[::-1]
        self._done: list[bytes] = []
        self._links = 0
        self._at = -1

    def run(self) -> tuple[int, bytes]:
        """An O_PATH fd of where the way ended, and the components that led there from the root."""
        self._restart()
        try:
            while self._todo:
                self._step(self._todo.pop())
        except OSError as error:
            os.close(self._at)
            error.filename = self._asked
            raise
        return self._at, b"/".join(self._done)

    def _step(self, part: bytes) -> None:
        if part in (b"", b"."):
            return
        if part == b"..":  # by name from the root: `..` of an fd leaves the root if its directory was moved out of it
            self._done = self._done[:-1]
            self._restart()
            return
        try:
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._at)
        except FileNotFoundError:
            if self._look is None:
                self._done += [part, *(it for it in self._todo[::-1] if it not in (b"", b"."))]
                self._todo = []
                return
            fd = self._make(part, *self._look)
        kind = _stat.S_IFMT(os.fstat(fd).st_mode)
        if kind == _stat.S_IFDIR:
            self._enter(fd)
            self._done.append(part)
        elif kind == _stat.S_IFLNK:
            self._follow(fd)
        elif self._look is None and not any(self._todo):
            os.close(fd)
            self._done.append(part)
        else:
            os.close(fd)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _follow(self, link: int) -> None:
        try:
            target = os.readlink(b"", dir_fd=link)
        finally:
            os.close(link)
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith(b"/"):
            self._done = []
            self._restart()
        self._todo.extend(target.split(b"/")[::-1])

    def _make(self, part: bytes, mode: int, uid: int, gid: int) -> int:
        try:
            os.mkdir(part, 0o700, dir_fd=self._at)
        except FileExistsError:  # made by somebody else meanwhile: theirs
            return os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._at)
        fd = os.open(part, os.O_RDONLY | _MADE, dir_fd=self._at)
        try:
            os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _restart(self) -> None:
        fd = open_in_root(self._root, b"/".join(self._done), os.O_PATH | os.O_DIRECTORY)
        self._enter(fd)

    def _enter(self, fd: int) -> None:
        if self._at >= 0:
            os.close(self._at)
        self._at = fd


def lstat(root_fd: int, path: str | bytes) -> os.stat_result:
    """stat of `path` inside the root; of the link itself if the last component is a symlink."""
    return _stat_of(open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW))


def stat(root_fd: int, path: str | bytes) -> os.stat_result:
    """stat of what `path` leads to inside the root."""
    return _stat_of(open_in_root(root_fd, path, os.O_PATH))


def _stat_of(fd: int) -> os.stat_result:
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def exists(root_fd: int, path: str | bytes) -> bool:
    """Does `path` lead to something inside the root? A dangling symlink does not."""
    try:
        stat(root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_file(root_fd: int, path: str | bytes, limit: int) -> bytes:
    """The content of a regular file inside the root: for /etc/passwd and its like.

    Raises OSError EINVAL for anything but a regular file, and EFBIG beyond `limit` bytes (CVE-2024-9676: a FIFO hangs
    the reader; CVE-2026-46680: a giant file exhausts it). The file is looked at through O_PATH first, because opening a
    device can already act on it; it is then opened by the same way, not through /proc, which may be the container's.
    """
    pinned = open_in_root(root_fd, path, os.O_PATH)
    try:
        seen = os.fstat(pinned)
        if not _stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    finally:
        os.close(pinned)
    try:
        if not os.path.samestat(seen, os.fstat(fd)):
            raise OSError(errno.EAGAIN, "was replaced while it was opened", path)
        return _read_bounded(fd, limit, path)
    finally:
        os.close(fd)


def _read_bounded(fd: int, limit: int, path: str | bytes) -> bytes:
    data = bytearray()
    while len(data) <= limit and (chunk := os.read(fd, min(1 << 20, limit + 1 - len(data)))):
        data += chunk
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
    return bytes(data)


def remove_tree(dir_fd: int, name: str | bytes) -> None:
    """Remove the entry `name` (one component) of a directory with all that is below it; nothing there is no error.

    Never follows a symlink and never crosses a mount point (OSError EXDEV instead of emptying what is mounted there).
    Entries that appear meanwhile are removed too, within bounds. Any depth: what lies deeper than `MAX_DEPTH` is first
    moved up. On an error the rest of the tree may stay; calling again goes on.
    """
    entry = os.fsencode(name)
    if b"/" in entry or entry in (b"", b".", b".."):
        raise OSError(errno.EINVAL, "not a single path component", name)
    try:
        os.unlink(entry, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        if not _is_dir(dir_fd, entry):
            error.filename = name
            raise
    try:
        _remove_dir(dir_fd, entry)
    except OSError as error:
        error.filename = error.filename or name
        raise


def _is_dir(dir_fd: int, name: bytes) -> bool:
    try:
        return _stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


class _Level:
    """A directory that is being emptied: its name in its parent, its fd, what is left of its directories."""

    __slots__ = ("below", "fd", "name", "parent", "tries")

    def __init__(self, parent: int, name: bytes, fd: int) -> None:
        self.parent, self.name, self.fd = parent, name, fd
        self.below: list[bytes] = []
        self.tries = 0


def _remove_dir(dir_fd: int, name: bytes) -> None:
    levels: list[_Level] = []
    moved = itertools.count()
    try:
        _descend(levels, dir_fd, name)
        while levels:
            level = levels[-1]
            if not level.below:
                if _rmdir(level):
                    os.close(levels.pop().fd)
                continue
            entry = level.below.pop()
            if len(levels) < MAX_DEPTH or not _move_up(level, entry, levels[0], moved):
                _descend(levels, level.fd, entry)
    finally:
        for level in levels:
            os.close(level.fd)


def _descend(levels: list[_Level], parent: int, name: bytes) -> None:
    try:
        fd = openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=ONE_STEP)
    except FileNotFoundError:
        return
    levels.append(_Level(parent, name, fd))
    _empty(levels[-1])


def _empty(level: _Level) -> None:
    """Unlink everything but directories; those are noted in `below`."""
    with os.scandir(level.fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                level.below.append(os.fsencode(entry.name))
                continue
            try:
                os.unlink(entry.name, dir_fd=level.fd)
            except FileNotFoundError:
                pass


def _move_up(level: _Level, name: bytes, top: _Level, numbers: itertools.count[int]) -> bool:
    """Make a deep directory one of the topmost's; False where it cannot be renamed (overlayfs, EXDEV)."""
    for number in numbers:
        goal = b".deep-%d" % number
        try:
            os.rename(name, goal, src_dir_fd=level.fd, dst_dir_fd=top.fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        else:
            top.below.append(goal)
            return True
    return False


def _rmdir(level: _Level) -> bool:
    """Remove the emptied directory; False if it has to be emptied again."""
    try:
        os.rmdir(level.name, dir_fd=level.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or level.tries >= _EMPTY_TRIES:
            raise
        level.tries += 1
        _empty(level)
        return False
    return True
