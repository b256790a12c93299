"""Stopping all processes of a group at once: cgroup.freeze (v2), freezer.state (v1)."""

from __future__ import annotations

import os
import time

from sampan.errors import Conflict, Unavailable
from sampan.linux.cgroup import controlfile, processes

_PATIENCE = 10.0


def freeze_v2(directory: str) -> None:
    """Freeze and wait until every process is. Raises Unavailable, thawed again, when one cannot be stopped, Conflict
    for a group that is gone.
    """
    _write_v2(directory, "1")
    if not _wait_v2(directory, "frozen 1"):
        controlfile.set_value(directory, "cgroup.freeze", "0")
        raise Unavailable(f"unable to freeze cgroup {directory}: a process does not stop")


def thaw_v2(directory: str) -> None:
    """Thaw and wait until the group is. Raises Unavailable where a group above is frozen, too: thawed with that one."""
    _write_v2(directory, "0")
    above = os.path.dirname(directory)
    while controlfile.exists(above, "cgroup.freeze"):  # a root has none
        if controlfile.text(above, "cgroup.freeze").strip() == "1":
            raise Unavailable(f"unable to thaw cgroup {directory}: {above} is frozen")
        above = os.path.dirname(above)
    if not _wait_v2(directory, "frozen 0"):
        raise Unavailable(f"unable to thaw cgroup {directory}")


def _write_v2(directory: str, value: str) -> None:
    try:
        controlfile.write(directory, "cgroup.freeze", value)
    except OSError as error:
        if error.errno in controlfile.GONE:
            raise _gone(directory) from error
        raise controlfile.failed(error, f"{directory}/cgroup.freeze", value) from error


def _wait_v2(directory: str, event: str) -> bool:
    try:
        return processes.wait_event(directory, event, _PATIENCE)
    except OSError as error:
        if error.errno in controlfile.GONE:
            raise _gone(directory) from error
        raise


def _gone(directory: str) -> Conflict:
    return Conflict(f"cgroup {directory} is gone: its processes have ended")


def _state_v1(directory: str) -> str:
    try:
        return controlfile.read(directory, "freezer.state").strip()
    except OSError as error:
        if error.errno in controlfile.GONE:
            raise _gone(directory) from error
        raise


def _set_v1(directory: str, value: str) -> None:
    try:
        controlfile.write(directory, "freezer.state", value)
    except OSError as error:
        if error.errno in controlfile.GONE:
            raise _gone(directory) from error
        raise controlfile.failed(error, f"{directory}/freezer.state", value) from error


def freeze_v1(directory: str) -> None:
    """As `freeze_v2`. v1 has no event: the kernel looks at its tasks when freezer.state is read, so reading is it.

    A process that forked while the group froze may stay running; writing FROZEN again catches it.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        _set_v1(directory, "FROZEN")
        for _ in range(50):
            if _state_v1(directory) == "FROZEN":
                return
            os.sched_yield()
    _set_v1(directory, "THAWED")
    raise Unavailable(f"unable to freeze cgroup {directory}: a process does not stop")


def thaw_v1(directory: str) -> None:
    """Thaw; done when the write returns. Raises as `thaw_v2`."""
    _set_v1(directory, "THAWED")
    if _state_v1(directory) != "THAWED":
        raise Unavailable(f"unable to thaw cgroup {directory}: a group above it is frozen")
