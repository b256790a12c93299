"""Files from a container's archive into a directory of the host.

The archive is the container's word and may lie: every part of a name is opened from its parent's descriptor and never
followed if it is a symlink, `..` is refused, and set-id bits are taken away unless owners are kept (CVE-2018-15664,
CVE-2019-10152, CVE-2025-4517: names resolved as strings).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sampan.cli.failure import CommandFailed
from sampan.cli.tar_read import TarStream
from sampan.cli.tar_write import Entry

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """Writes below the directory `top`. What was copied gets the name `root` ("" puts its content into `top`)."""

    def __init__(self, top: int, root: str, keep_owner: bool) -> None:
        self._top = top
        self._root = os.fsencode(root)
        self._keep_owner = keep_owner
        self.size = 0

    def unpack(self, blocks: Iterator[bytes]) -> None:
        """All entries. Raises CommandFailed, OSError."""
        stream = TarStream(blocks)
        for entry in stream.entries():
            parts = self._parts(entry.name)
            if not parts:
                continue  # the root itself, put into a directory that is there
            parent = self._parent(parts[:-1])
            try:
                self._make(entry, parent, parts[-1], stream)
            finally:
                os.close(parent)

    def _parts(self, name: bytes) -> list[bytes]:
        """The name below `top`, part by part."""
        found = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in found:
            raise CommandFailed(f"refused: the container's archive has a name with '..': {os.fsdecode(name)}")
        # The first part stands for what was copied; "/" and "./" stand for a directory's content.
        below = found if name.split(b"/")[0] in (b"", b".") else found[1:]
        return [self._root, *below] if self._root else below

    def _parent(self, parts: list[bytes]) -> int:
        """A descriptor of the directory of that name, made where it is missing."""
        fd = os.dup(self._top)
        for part in parts:
            try:
                try:
                    inner = os.open(part, DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=fd)
                    inner = os.open(part, DIRECTORY, dir_fd=fd)
            except (NotADirectoryError, OSError) as error:
                raise CommandFailed(f"refused: {os.fsdecode(part)}: {(error.strerror or '').lower()}") from None
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _make(self, entry: Entry, parent: int, name: bytes, stream: TarStream) -> None:
        if entry.kind == b"5":
            self._directory(entry, parent, name)
            return
        _clear(parent, name)
        if entry.kind == b"0":
            self._file(entry, parent, name, stream)
        elif entry.kind == b"2":
            os.symlink(entry.link, name, dir_fd=parent)
            if self._keep_owner:
                os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        elif entry.kind == b"1":
            self._hard_link(entry, parent, name)
        elif entry.kind in (b"3", b"4", b"6"):
            kind = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}[entry.kind]
            os.mknod(name, kind | entry.mode & 0o777, os.makedev(entry.major, entry.minor), dir_fd=parent)

    def _directory(self, entry: Entry, parent: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        fd = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            self._attributes(fd, entry)
        finally:
            os.close(fd)

    def _file(self, entry: Entry, parent: int, name: bytes, stream: TarStream) -> None:
        fd = os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        try:
            for data in stream.content():
                self.size += len(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            self._attributes(fd, entry)
        finally:
            os.close(fd)

    def _attributes(self, fd: int, entry: Entry) -> None:
        if self._keep_owner:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode & (0o7777 if self._keep_owner else 0o777))
        os.utime(fd, (entry.mtime, entry.mtime))

    def _hard_link(self, entry: Entry, parent: int, name: bytes) -> None:
        target = self._parts(entry.link)
        directory = self._parent(target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)


def _clear(parent: int, name: bytes) -> None:
    """Takes away what is to be replaced. Raises CommandFailed for a directory."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise CommandFailed(f"cannot replace the directory {os.fsdecode(name)} by a file") from None
