"""What a container's run leaves behind: its exit's file, its run directory, and, if its shim was killed, its cgroup."""

from __future__ import annotations

import contextlib
import os
import time

import msgspec

from sampan.engine import timestamps
from sampan.errors import NotFound
from sampan.linux.cgroup import Group, Host
from sampan.shim.messages import EXIT_FILE, Exit

_MAX = 64 << 10


def read_exit(directory: str) -> Exit | None:
    """How the container ended, if its shim could still write it down."""
    try:
        with open(f"{directory}/{EXIT_FILE}", "rb") as file:
            return msgspec.json.decode(file.read(_MAX), type=Exit)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def killed(why: str) -> Exit:
    """The end of a container that nobody saw."""
    return Exit(137, timestamps.rfc3339(time.time_ns()), signal=9, error=why)


def end(host: Host, cgroup_path: str) -> None:
    """Kill what is in a container's cgroup and remove it; nothing there is no error. Blocks: for a thread.

    Raises Unavailable for processes that do not end.
    """
    with contextlib.suppress(NotFound):
        group = Group.open(host, cgroup_path)
        group.kill_all()
        group.remove()


def remove_directory(directory: str) -> None:
    """A run's directory or its files': a handful of names on a tmpfs. Nothing there is no error."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)
