"""How much a tree of files holds."""

from __future__ import annotations

import os


def tree_size(directory: int) -> int:
    """Bytes of all regular files below a directory fd; a file with several names counts once. Follows nothing."""
    seen: set[tuple[int, int]] = set()
    total, names = _level(directory, seen)
    levels = [(directory, names)]
    try:
        while levels:
            fd, names = levels[-1]
            if names:
                below = _below(fd, names.pop())
                if below >= 0:
                    levels.append((below, []))
                    size, left = _level(below, seen)
                    levels[-1] = (below, left)
                    total += size
            else:
                levels.pop()
                if levels:
                    os.close(fd)
    finally:
        for fd, _ in levels[1:]:
            os.close(fd)
    return total


def _level(fd: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """Bytes of the files in a directory, and the names of its directories."""
    size = 0
    names: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                size += _size(entry, seen)
    return size, names


def _below(fd: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):
        return -1  # a running container removed or replaced it meanwhile


def _size(entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if status.st_nlink > 1:
        inode = (status.st_dev, status.st_ino)
        if inode in seen:
            return 0
        seen.add(inode)
    return status.st_size
