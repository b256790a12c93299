"""Tar entries become files below a root, on directory fds: every path of the archive is resolved inside that root.

What is checked is what is used: a parent directory is opened by openat2(2) inside the root, and the entry is made in it
by its last component with O_EXCL or without following links. So neither a symlink made by an earlier entry
(CVE-2014-6407, CVE-2021-32760, CVE-2025-47290, CVE-2026-17106) nor one swapped in by a running container
(CVE-2018-15664) leads out.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.image import whiteout
from sampan.image.tar.entry import BLOCKDEV, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry, shown
from sampan.image.tar.read import Reader
from sampan.linux import paths

_OPEN_DIRS = 128
_MAX_WARNINGS = 20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODES = {CHAR: stat.S_IFCHR, BLOCKDEV: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_ATTRIBUTES = ("user.", "system.posix_acl_", "security.capability")
#: errors that the archive's content provokes; the others (no space, read-only, I/O) are the host's
_THEIRS = frozenset({
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EEXIST, errno.EXDEV,
    errno.EINVAL, errno.EMLINK, errno.ERANGE, errno.E2BIG,
})


@dataclass(frozen=True)
class Rules:
    """How entries are taken.

    `layer`: whiteouts become overlayfs' (image layers); else `.wh.` names are ordinary. `owner` replaces the archive's.
    `same_kind`: refuse to replace a directory by something else or the reverse (docker cp); else the entry wins.
    `special`: FIFOs, character and block devices are made; else refused. `root`: an entry for the root itself sets its
    mode, owner and time.
    """

    layer: bool = False
    owner: tuple[int, int] | None = None
    same_kind: bool = False
    special: bool = True
    root: bool = False


class Unpacker:
    """Puts entries below `root_fd` (a directory; stays the caller's). The process's umask must be 0."""

    def __init__(self, root_fd: int, rules: Rules) -> None:
        self._root = root_fd
        self._rules = rules
        self._dirs: OrderedDict[bytes, int] = OrderedDict()
        self._stale = False  # a directory or link was replaced: what cached paths meant is no longer known
        self._times: dict[bytes, int] = {}
        #: bytes of all files, as archived
        self.size = 0
        #: what could not be kept, one sentence each
        self.warnings: list[str] = []

    def run(self, reader: Reader) -> None:
        """Unpack a whole archive. Raises InvalidArgument (the archive) or OSError (the host)."""
        try:
            for entry in reader.entries():
                self._add(entry, reader)
            self._set_times()
        finally:
            self._forget()

    def _add(self, entry: Entry, reader: Reader) -> None:
        try:
            if self._stale:
                self._forget()
            path = clean(entry.name)
            if self._rules.owner is not None:
                entry.uid, entry.gid = self._rules.owner
            if not path:
                self._on_root(entry)
                return
            parent, _, name = path.rpartition(b"/")
            directory = self._parent(parent)
            if self._rules.layer and name.startswith(whiteout.PREFIX):
                self._whiteout(directory, name)
            else:
                self._make(entry, path, directory, name, reader)
        except OSError as error:
            if error.errno in _THEIRS:
                raise InvalidArgument(f"cannot unpack {shown(entry.name)!r}: {error.strerror}") from error
            raise OSError(error.errno, error.strerror, shown(entry.name)) from error

    def _on_root(self, entry: Entry) -> None:
        if entry.kind != DIRECTORY:  # CVE-2021-29136: "." as a symlink
            raise InvalidArgument(f"the archive's root {shown(entry.name)!r} is not a directory")
        if self._rules.root:
            fd = os.open(b".", _DIR, dir_fd=self._root)
            try:
                self._finish(fd, entry)
            finally:
                os.close(fd)
            self._times[b""] = entry.mtime

    def _parent(self, path: bytes) -> int:
        fd = self._dirs.get(path)
        if fd is not None:
            self._dirs.move_to_end(path)
            return fd
        try:
            fd = paths.open_in_root(self._root, path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            fd = paths.ensure_dir(self._root, path, 0o755, *(self._rules.owner or (0, 0)))
        return self._remember(path, fd)

    def _remember(self, path: bytes, fd: int) -> int:
        if len(self._dirs) >= _OPEN_DIRS:
            os.close(self._dirs.popitem(last=False)[1])
        self._dirs[path] = fd
        return fd

    def _forget(self) -> None:
        self._stale = False
        while self._dirs:
            os.close(self._dirs.popitem()[1])

    def _make(self, entry: Entry, path: bytes, directory: int, name: bytes, reader: Reader) -> None:
        kind = entry.kind
        if kind == FILE:
            self._file(entry, directory, name, reader)
        elif kind == DIRECTORY:
            self._directory(entry, path, directory, name)
        elif kind == HARDLINK:
            self._hardlink(entry, directory, name)
        else:
            self._clear(entry, directory, name)
            if kind == SYMLINK:
                os.symlink(entry.link, name, dir_fd=directory)
            else:
                self._node(entry, directory, name)
            os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=directory, follow_symlinks=False)

    def _file(self, entry: Entry, directory: int, name: bytes, reader: Reader) -> None:
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=directory)
        except FileExistsError:
            self._clear(entry, directory, name)
            fd = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            self.size += entry.size
            reader.copy(fd)
            self._finish(fd, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _finish(self, fd: int, entry: Entry) -> None:
        """Owner first: chown(2) takes the setuid bits and the capabilities away."""
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            self._attribute(fd, entry, key, value)

    def _attribute(self, fd: int, entry: Entry, key: str, value: bytes) -> None:
        """Only what a container may set itself: trusted.overlay.* would tell overlayfs what a layer means."""
        if not key.startswith(_ATTRIBUTES) or key.startswith("user.overlay."):
            self._warn(f"{shown(entry.name)}: the attribute {key[:100]} was left out")
            return
        try:
            os.setxattr(fd, key, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            self._warn(f"{shown(entry.name)}: this file system has no attribute {key[:100]}")

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(text)

    def _directory(self, entry: Entry, path: bytes, directory: int, name: bytes) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            opaque = self._rules.layer and whiteout.is_at(directory, name)
            if self._clear(entry, directory, name):
                os.mkdir(name, 0o700, dir_fd=directory)
        fd = os.open(name, _DIR, dir_fd=directory)
        try:
            self._finish(fd, entry)
            if opaque:  # a whiteout and then the directory anew: nothing of the lower one shows through
                whiteout.set_opaque(fd)
        except OSError:
            os.close(fd)
            raise
        self._times[path] = entry.mtime
        if path in self._dirs:
            os.close(fd)
        else:
            self._remember(path, fd)

    def _hardlink(self, entry: Entry, directory: int, name: bytes) -> None:
        source = clean(entry.link)
        if not source:
            raise InvalidArgument(f"{shown(entry.name)!r} is a hard link to a directory")
        parent, _, source_name = source.rpartition(b"/")
        # not from the cache: taking it may close the fd of the entry's own directory
        source_dir = paths.open_in_root(self._root, parent, os.O_PATH | os.O_DIRECTORY)
        try:
            found = os.stat(source_name, dir_fd=source_dir, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise InvalidArgument(f"{shown(entry.name)!r} is a hard link to a directory")
            if _same(source_dir, source_name, directory, name):
                return
            self._clear(entry, directory, name)
            os.link(source_name, name, src_dir_fd=source_dir, dst_dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError as error:
            text = f"{shown(entry.name)!r} is a hard link to {shown(entry.link)!r}, which is not in the archive"
            raise InvalidArgument(text) from error
        finally:
            os.close(source_dir)

    def _node(self, entry: Entry, directory: int, name: bytes) -> None:
        if not self._rules.special:
            raise InvalidArgument(f"{shown(entry.name)!r} is a device or FIFO, which is not allowed here")
        if max(entry.major, entry.minor) >= 1 << 20 or min(entry.major, entry.minor) < 0:
            raise InvalidArgument(f"{shown(entry.name)!r} has an impossible device number")
        device = 0 if entry.kind == FIFO else os.makedev(entry.major, entry.minor)
        os.mknod(name, _MODES[entry.kind] | entry.mode, device, dir_fd=directory)

    def _clear(self, entry: Entry, directory: int, name: bytes) -> bool:
        """Make room for an entry. False if a directory is there and the entry is one: then they are merged."""
        try:
            there = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return True
        if stat.S_ISDIR(there) and entry.kind == DIRECTORY:
            return False
        if self._rules.same_kind and (stat.S_ISDIR(there) or entry.kind == DIRECTORY):
            old, new = ("directory", "non-directory") if stat.S_ISDIR(there) else ("non-directory", "directory")
            path = shown(clean(entry.name))
            raise InvalidArgument(f'cannot overwrite {old} "{path}" with {new} "{path}"')
        if stat.S_ISDIR(there) or stat.S_ISLNK(there):
            paths.remove_tree(directory, name)
            self._stale = True
        else:
            os.unlink(name, dir_fd=directory)
        return True

    def _whiteout(self, directory: int, name: bytes) -> None:
        if name == whiteout.OPAQUE:
            fd = os.open(b".", _DIR, dir_fd=directory)
            try:
                whiteout.set_opaque(fd)
            finally:
                os.close(fd)
        elif not name.startswith(whiteout.RESERVED):  # aufs' own notes mean nothing to others
            hidden = name[len(whiteout.PREFIX) :]
            if hidden in (b"", b".", b".."):  # ".wh..." would be a whiteout of the directory above, even of the root's
                raise InvalidArgument(f"{shown(name)!r} in the archive hides nothing that can exist")
            whiteout.make(directory, hidden)

    def _set_times(self) -> None:
        """Directories last: what is made in them changes their time."""
        for path, mtime in self._times.items():
            try:
                fd = paths.open_in_root(self._root, path, _DIR)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # a later entry replaced it
                    continue
                raise
            try:
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)


def clean(name: bytes) -> bytes:
    """An archived name as a path below the root: no empty, `.` or `..` component; b"" is the root itself.

    Raises InvalidArgument if it leads out of the root, whatever symlinks there are. An absolute name is one below it.
    """
    parts = name.split(b"/")
    if b".." not in parts:
        return b"/".join([part for part in parts if part not in (b"", b".")])
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            if not kept:
                raise InvalidArgument(f"{shown(name)!r} in the archive leads out of its root")
            kept.pop()
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept)


def _same(one: int, one_name: bytes, other: int, other_name: bytes) -> bool:
    return one_name == other_name and os.path.samestat(os.fstat(one), os.fstat(other))
