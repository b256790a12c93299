"""Kill: a signal for the container's process 1, or for all of its processes (runtime.md, "Kill")."""

from __future__ import annotations

import os

from sampan.errors import Conflict, NotFound, Unavailable
from sampan.linux import signals
from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.lifecycle.records import Entry, Record


def kill(entry: Entry, number: int, everyone: bool = False) -> None:
    """Send signal `number`. `everyone`: to all processes in the cgroup, also when process 1 or everybody has ended.
    SIGKILL ends all of them where the pid namespace is not the container's own: there they do not end with process 1.

    By pidfd, after a look at the start time: never to another process that got the pid. Raises Conflict when process 1
    has ended, and it was to get it ("container not running", as runc says and containerd looks for).
    """
    record = entry.read()
    if everyone:
        _signal_everyone(entry, record, number)
        return
    shares = number == signals.SIGKILL and record.pid != 0 and _shares_pids(entry)  # before: `run` deletes it
    _signal_first(record, number)
    if number == signals.SIGKILL:
        _thaw(entry, record)
        group = entry.group(record)
        if group is not None and shares:
            group.kill_all()


def _signal_first(record: Record, number: int) -> None:
    try:
        pidfd = status.open_pidfd(record)
    except NotFound:
        raise Conflict("container not running") from None
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    finally:
        os.close(pidfd)


def _shares_pids(entry: Entry) -> bool:
    try:
        linux = entry.spec().linux
    except NotFound:
        raise Conflict("container not running") from None  # deleted this moment
    return linux is not None and not any(it.type == "pid" and not it.path for it in linux.namespaces)


def _thaw(entry: Entry, record: Record) -> None:
    """A frozen process of a v1 cgroup dies only once it is thawed; v2 lets it die frozen (cgroups(7))."""
    group = entry.group(record)
    if group is not None and group.frozen():
        try:
            group.thaw()
        except Unavailable:
            return  # a group above is somebody else's to thaw: the signal waits for that


def _signal_everyone(entry: Entry, record: Record, number: int) -> None:
    group = entry.group(record)
    if group is None:
        try:
            _signal_first(record, number)
        except Conflict:
            pass  # nobody is left, as in an empty cgroup
    elif number == signals.SIGKILL:
        group.kill_all()
    else:
        group.signal_all(number)
