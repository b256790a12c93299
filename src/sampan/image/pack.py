"""Files below a directory fd become tar entries, sorted, so that the same tree gives the same bytes.

Two uses: what a user asked for (`docker cp`, `export`), and a layer, made of the upper directory of an overlay.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from sampan.errors import InvalidArgument, Unsupported
from sampan.image import whiteout
from sampan.image.stream import CHUNK
from sampan.image.tar import write
from sampan.image.tar.entry import BLOCKDEV, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry, shown

MAX_DEPTH = 2000  # levels; each holds a descriptor
_MAX_WARNINGS = 20
_SECOND = 10**9
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: BLOCKDEV,
    stat.S_IFIFO: FIFO,
}
_ATTRIBUTES = ("user.", "system.posix_acl_", "security.capability")
_OVERLAY = "trusted.overlay."
#: overlayfs' attributes without which the file is not what it seems; our mounts never make them
_NEEDS_OVERLAY = frozenset({_OVERLAY + "redirect", _OVERLAY + "metacopy"})


@dataclass(frozen=True)
class PackRules:
    """`layer`: overlayfs' whiteouts become `.wh.` files. `one_filesystem`: what is mounted below stays out.

    `drop_sockets`: sockets, which tar has no word for, are removed from disk too (the directory becomes the layer).
    """

    layer: bool = False
    one_filesystem: bool = False
    drop_sockets: bool = False


class Packer:
    """Writes entries to `out`, in pieces of about CHUNK bytes; `finish` ends the archive."""

    def __init__(self, out: Callable[[bytes], object], rules: PackRules) -> None:
        self._out = out
        self._rules = rules
        self._buffer = bytearray()
        self._inodes: dict[tuple[int, int], bytes] = {}
        self._device = -1
        #: bytes of all files; number of entries
        self.size = 0
        self.count = 0
        self.warnings: list[str] = []

    def finish(self) -> None:
        self._write(write.END)
        self._flush()

    def tree(self, directory: int, prefix: bytes) -> None:
        """All that is in `directory` (an fd for reading, stays the caller's), named below `prefix` ("" or "x/")."""
        self._device = os.fstat(directory).st_dev
        levels = [(directory, prefix, _names(directory))]
        try:
            while levels:
                fd, path, names = levels[-1]
                if not names:
                    levels.pop()
                    if levels:
                        os.close(fd)
                    continue
                below = self._entry(fd, names.pop(), path)
                if below is not None:
                    levels.append(below)
                    if len(levels) > MAX_DEPTH:
                        raise InvalidArgument(f"{shown(path)!r} is nested more than {MAX_DEPTH} levels deep")
        finally:
            for fd, _, _ in levels[1:]:
                os.close(fd)

    def path(self, parent: int, name: bytes, archived: bytes) -> None:
        """One entry of a directory and all below it, under the name `archived`."""
        self._device = os.fstat(parent).st_dev if self._device < 0 else self._device
        below = self._add(parent, name, archived)
        if below is not None:
            try:
                self.tree(below, archived.rstrip(b"/") + b"/")
            finally:
                os.close(below)

    def directory(self, fd: int, archived: bytes) -> None:
        """An entry for a directory itself."""
        self._put(self._describe(archived, os.fstat(fd), fd))

    def _entry(self, fd: int, name: bytes, path: bytes) -> tuple[int, bytes, list[bytes]] | None:
        try:
            below = self._add(fd, name, path + name)
        except FileNotFoundError:  # a running container removed it meanwhile
            return None
        except OSError as error:
            raise OSError(error.errno, error.strerror, shown(path + name)) from error
        return None if below is None else (below, path + name + b"/", _names(below))

    def _add(self, parent: int, name: bytes, archived: bytes) -> int | None:
        """Put one entry; the fd of a directory whose content is to follow."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if self._rules.layer:
            if whiteout.is_whiteout(status):
                head, slash, last = archived.rpartition(b"/")
                self._put(Entry(head + slash + whiteout.PREFIX + last, mode=0o600))
                return None
            if name.startswith(whiteout.PREFIX):
                raise InvalidArgument(f"{shown(archived)!r} cannot be part of an image: the name means a deleted file")
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            return self._directory(parent, name, archived)
        if kind == stat.S_IFSOCK:
            if self._rules.drop_sockets:
                os.unlink(name, dir_fd=parent)
            return None
        first = self._inodes.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is not None:
            link = self._describe(archived, status, None)
            link.kind, link.link = HARDLINK, first
            self._put(link)
        elif kind == stat.S_IFREG:
            self._file(parent, name, archived)
        else:
            entry = self._describe(archived, status, None)
            if kind == stat.S_IFLNK:
                entry.link = os.readlink(name, dir_fd=parent)
            self._put(entry)
        if status.st_nlink > 1 and first is None:
            self._inodes[status.st_dev, status.st_ino] = archived
        return None

    def _directory(self, parent: int, name: bytes, archived: bytes) -> int | None:
        fd = os.open(name, _DIR, dir_fd=parent)
        try:
            status = os.fstat(fd)
            self._put(self._describe(archived + b"/", status, fd))
            if self._rules.layer and whiteout.is_opaque(fd):
                self._put(Entry(archived + b"/" + whiteout.OPAQUE, mode=0o600))
            if self._rules.one_filesystem and status.st_dev != self._device:
                os.close(fd)
                return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _file(self, parent: int, name: bytes, archived: bytes) -> None:
        fd = _open_regular(parent, name)
        try:
            status = os.fstat(fd)
            entry = self._describe(archived, status, fd)
            entry.size = status.st_size
            self.size += entry.size
            self._put(entry)
            self._content(fd, entry)
        finally:
            os.close(fd)

    def _content(self, fd: int, entry: Entry) -> None:
        left = entry.size
        while left and (data := os.read(fd, min(left, CHUNK))):
            self._write(data)
            left -= len(data)
        if left:  # the header has promised them
            self._warn(f"{shown(entry.name)}: the file shrank while it was read")
        while left:
            step = min(left, CHUNK)
            self._write(bytes(step))
            left -= step
        self._write(write.padding(entry.size))

    def _describe(self, archived: bytes, status: os.stat_result, fd: int | None) -> Entry:
        """The entry of a file system object; whole seconds, as Docker and every ustar reader have them."""
        kind = stat.S_IFMT(status.st_mode)
        entry = Entry(
            archived, _KINDS[kind], status.st_mode & 0o7777, status.st_uid, status.st_gid,
            mtime=status.st_mtime_ns // _SECOND * _SECOND,
        )
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        for key in os.listxattr(fd) if fd is not None else ():
            if key in _NEEDS_OVERLAY and self._rules.layer:
                raise Unsupported(f"{shown(archived)!r} was written by an overlay mount with redirect_dir or metacopy")
            if key.startswith(_ATTRIBUTES) and not key.startswith("user.overlay."):
                assert fd is not None
                entry.xattrs[key] = os.getxattr(fd, key)
        return entry

    def _put(self, entry: Entry) -> None:
        self.count += 1
        self._write(write.header(entry))

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)

    def _write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        data = bytes(self._buffer)
        self._buffer.clear()
        if data:
            self._out(data)


def _names(fd: int) -> list[bytes]:
    """Sorted so that pop() gives the first."""
    return sorted(map(os.fsencode, os.listdir(fd)), reverse=True)


def _open_regular(parent: int, name: bytes) -> int:
    """A file to read. What a container has put in its place meanwhile is looked at before it is opened: opening a
    device acts on it, and we are in no device cgroup (a host's watchdog starts to count when it is opened).
    """
    pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISREG(os.fstat(pinned).st_mode):
            raise OSError(errno.EAGAIN, "the file was replaced while it was read", os.fsdecode(name))
        return os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_CLOEXEC)  # allowed: our own descriptor
    finally:
        os.close(pinned)
