"""What is below a directory, entry by entry, without following a symlink. Runs in worker jobs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.build.ignore import Ignore
from sampan.linux import paths

#: below the directory only, and through no symlink: what was looked at is what is opened
_INSIDE = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS | paths.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class Entry:
    """`path` from the top, `name` its last part, `directory` the fd it is in (open until the next entry is asked for).

    `target` is where a symlink points, else "".
    """

    path: str
    name: str
    directory: int
    status: os.stat_result
    target: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> int:
        """Open a regular file for reading. Whatever the entry is now, this does not block or act on a device."""
        return os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)


def walk(top: int, exclude: Ignore | None = None) -> Iterator[Entry]:
    """Everything below the directory fd `top`, in a fixed order, a directory before what it holds.

    What `exclude` leaves out (paths from the top) is not there; its exceptions are, without the directory around them.
    """
    return (entry for entry, kept in judge(top, exclude) if kept)


def judge(top: int, exclude: Ignore | None) -> Iterator[tuple[Entry, bool]]:
    """As `walk`, with what is left out, too; directories left out are entered only if there are exceptions."""
    left: list[tuple[str, tuple[bool, ...]]] = [("", ())]
    while left:
        directory, above = left.pop()
        fd = paths.openat2(top, directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve=_INSIDE)
        try:
            for name in sorted(os.listdir(fd)):
                entry = _entry(fd, directory, name)
                matched = exclude.matched(entry.path, above) if exclude else ()
                kept = exclude is None or not exclude.verdict(matched)
                yield entry, kept
                if entry.is_dir and (kept or (exclude is not None and exclude.exceptions)):
                    left.append((entry.path, matched))
        finally:
            os.close(fd)


def _entry(fd: int, directory: str, name: str) -> Entry:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
    return Entry(f"{directory}/{name}" if directory else name, name, fd, status, target)
