"""Stands in for libmount's Python binding, which Debian does not have: as much of it as crun's tests use."""

from __future__ import annotations


class _Mount:
    def __init__(self, line: str) -> None:
        before, _, after = line.rstrip("\n").partition(" - ")
        self.target, self.vfs_options = before.split(" ")[4:6]
        self.fs_options = after.split(" ")[2]


class Table:
    """The mounts of a file in the form of /proc/PID/mountinfo."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as file:
            self._mounts = [_Mount(line) for line in file if " - " in line]

    def find_target(self, path: str) -> _Mount | None:
        """The first mount on `path`."""
        return next((mount for mount in self._mounts if mount.target == path), None)
