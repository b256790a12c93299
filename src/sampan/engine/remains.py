"""What a container's run leaves behind: its exit's file, its run directory, and, if its shim was killed, its cgroup."""

from __future__ import annotations

import contextlib
import os
import time

import msgspec

from sampan.engine import timestamps
from sampan.engine.context import Context
from sampan.engine.record import Record
from sampan.errors import NotFound
from sampan.linux import paths
from sampan.linux.cgroup import Group, Host
from sampan.shim.external import forget
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


def end_run(ctx: Context, record: Record) -> None:
    """All that a run has left, whoever was killed: processes, cgroup, what another runtime knows of it. Blocks.

    Raises Unavailable for processes that do not end.
    """
    end(ctx.cgroups, ctx.cgroup_path(record))
    if record.runtime:
        forget.forget(record.runtime, ctx.run_directory(record.id), record.id, ctx.cgroup_path(record))


def remove_directory(directory: str) -> None:
    """A run's directory or its files': a handful of names on a tmpfs. Nothing there is no error."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        try:
            os.unlink(f"{directory}/{name}")
        except IsADirectoryError:  # a bundle that another runtime's shim could not remove
            _remove_tree(directory, name)
        except FileNotFoundError:
            continue
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


def _remove_tree(directory: str, name: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        paths.remove_tree(fd, name)
    finally:
        os.close(fd)
