"""What a container changed: its upper directory against the layers below (`docker diff`)."""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.image import whiteout

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: what a start puts in place for its mounts: no change of the container's, as long as it is empty
MOUNT_POINTS = frozenset({
    "/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc", "/etc/hostname", "/etc/hosts",
    "/etc/mtab", "/etc/resolv.conf", "/proc", "/sys", "/sys/fs", "/sys/fs/cgroup",
})


class Kind(enum.IntEnum):
    """Docker's numbers."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True)
class Change:
    path: str
    kind: Kind


def changes(upper: int, lower: int) -> list[Change]:
    """All changes, sorted by path. `upper` and `lower` are fds of the upper directory and of the merged layers.

    A directory counts as modified if its own look changed or anything directly in it did, as with Docker.
    """
    found = _Walk()
    found.directory(upper, lower, "")
    hidden = _bare_mount_points(found)
    return [Change(path, kind) for path, kind in sorted(found.kinds.items()) if path not in hidden]


class _Walk:
    """`empty`: new files without content and new directories, whatever these hold."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self.empty: set[str] = set()

    def directory(self, upper: int, lower: int, path: str) -> None:
        """Depth first with an explicit stack: (fd of upper, fd of lower or -1, path, names left)."""
        stack = [(upper, lower, path, iter(os.listdir(upper)))]
        try:
            while stack:
                top = stack[-1]
                name = next(top[3], None)
                if name is None:
                    _close(stack.pop(), len(stack))
                    continue
                below = self._entry(top[0], top[1], top[2], name)
                if below is not None:
                    stack.append(below)
        finally:
            while stack:
                _close(stack.pop(), len(stack))

    def _entry(self, upper: int, lower: int, parent: str, name: str) -> tuple[int, int, str, Iterator[str]] | None:
        path = f"{parent}/{name}"
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        old = _look(lower, name)
        if whiteout.is_whiteout(status):
            if old is not None:
                self._note(parent, path, Kind.DELETED)
            return None
        if not stat.S_ISDIR(status.st_mode):
            self._note(parent, path, Kind.ADDED if old is None else Kind.MODIFIED)
            if status.st_size == 0 or path == "/etc/mtab":
                self.empty.add(path)
            return None
        if old is None or not stat.S_ISDIR(old.st_mode):
            self._note(parent, path, Kind.ADDED if old is None else Kind.MODIFIED)
            old = None
        elif _own_look(old, path) != _own_look(status, path):
            self._note(parent, path, Kind.MODIFIED)
        fd = os.open(name, _DIR, dir_fd=upper)
        names = os.listdir(fd)
        self.empty.add(path)
        below = -1 if old is None else os.open(name, _DIR, dir_fd=lower)
        if below >= 0 and whiteout.is_opaque(fd):
            self._replaced(below, path, set(names))
        return fd, below, path, iter(names)

    def _replaced(self, lower: int, path: str, kept: set[str]) -> None:
        """A directory that was removed and made anew: what it held before is gone."""
        for name in os.listdir(lower):
            if name not in kept and _look(lower, name) is not None:
                self._note(path, f"{path}/{name}", Kind.DELETED)

    def _note(self, parent: str, path: str, kind: Kind) -> None:
        self.kinds[path] = kind
        if parent and path not in MOUNT_POINTS:
            self.kinds.setdefault(parent, Kind.MODIFIED)


def _bare_mount_points(found: _Walk) -> set[str]:
    hidden: set[str] = set()
    for path in sorted(MOUNT_POINTS, reverse=True):  # what is in a directory comes before it
        if found.kinds.get(path) != Kind.ADDED or path not in found.empty:
            continue
        if not any(it.startswith(path + "/") and it not in hidden for it in found.kinds):
            hidden.add(path)
    return hidden


def _own_look(status: os.stat_result, path: str) -> tuple[int, int, int, int]:
    """Making a mount point in a directory changes its time, and that was not the container."""
    return status.st_mode, status.st_uid, status.st_gid, 0 if path in MOUNT_POINTS else status.st_mtime_ns


def _look(directory: int, name: str) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return None if whiteout.is_whiteout(status) else status


def _close(level: tuple[int, int, str, Iterator[str]], depth: int) -> None:
    """The first level is the caller's."""
    if depth:
        os.close(level[0])
        if level[1] >= 0:
            os.close(level[1])
