"""A directory tree as a tar stream: a build context, what `cp` copies."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from sampan.cli.tar_write import END, Entry, content_of, entry_of, header

Choose = Callable[[str, bool], "tuple[bool, bool]"]
"""(path in the tree, is a directory) → (send it, look inside)."""


def _everything(path: str, is_directory: bool) -> tuple[bool, bool]:
    return True, True


class TreeStream:
    """Streams what is in the directory `top`. Names in the archive begin with `prefix`.

    Nothing outside is followed: symlinks are sent as symlinks, each file is opened by its directory's descriptor.
    """

    def __init__(
        self, top: int, *, prefix: bytes = b"", choose: Choose = _everything, keep_owner: bool = False,
        shown: str = ".",
    ) -> None:
        self._top = top
        self._prefix = prefix
        self._choose = choose
        self._keep_owner = keep_owner
        self._shown = shown
        self._seen: dict[tuple[int, int], bytes] = {}

    def blocks(self) -> Iterator[bytes]:
        """The archive without its end."""
        yield from self._directory(self._top, "")

    def _directory(self, fd: int, path: str) -> Iterator[bytes]:
        with os.scandir(fd) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            inner = f"{path}/{name}" if path else name
            try:
                details = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:
                continue  # gone since the directory was read
            is_directory = stat.S_ISDIR(details.st_mode)
            send, descend = self._choose(inner, is_directory)
            if send:
                yield from self._one(fd, name, inner, details)
            if is_directory and descend:
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                try:
                    yield from self._directory(child, inner)
                finally:
                    os.close(child)

    def _one(self, fd: int, name: str, inner: str, details: os.stat_result) -> Iterator[bytes]:
        entry = entry_of(self._prefix + os.fsencode(inner), details, self._keep_owner)
        if entry is None:
            return
        if entry.kind == b"2":
            entry.link = os.fsencode(os.readlink(name, dir_fd=fd))
        elif details.st_nlink > 1 and entry.kind != b"5":
            first = self._seen.setdefault((details.st_dev, details.st_ino), entry.name)
            if first != entry.name:
                yield header(Entry(entry.name, kind=b"1", mode=entry.mode, mtime=entry.mtime, link=first))
                return
        if entry.kind != b"0":
            yield header(entry)
            return
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
        try:
            yield header(entry)
            yield from content_of(file, entry, f"{self._shown}/{inner}")
        finally:
            os.close(file)


def gathered(blocks: Iterator[bytes], size: int = 256 << 10) -> Iterator[bytes]:
    """The same bytes in pieces of about `size`, and the archive's end: headers alone would be many small packets."""
    held: list[bytes] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    yield b"".join([*held, END])
