"""Pause and resume: the cgroup freezer stops all of a container's processes and lets them go on."""

from __future__ import annotations

from sampan.errors import Conflict, Unsupported
from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroup import Group
    from sampan.runtime.lifecycle.records import Entry


def pause(entry: Entry) -> None:
    """Stop all of them; returns when they are. Raises Conflict when it is neither created nor running, Unavailable."""
    group = _group(entry, (status.CREATED, status.RUNNING), "container not running")
    group.freeze()


def resume(entry: Entry) -> None:
    """Let them go on. Raises Conflict when it is not paused, Unavailable."""
    group = _group(entry, (status.PAUSED,), "container not paused")
    group.thaw()


def _group(entry: Entry, allowed: tuple[str, ...], otherwise: str) -> Group:
    entry.lock()
    record = entry.read()
    if status.of(entry, record) not in allowed:
        raise Conflict(otherwise)
    group = entry.group(record)
    if group is None:
        raise Unsupported(f"container {entry.id} has no cgroup of its own: it cannot be paused")
    return group
