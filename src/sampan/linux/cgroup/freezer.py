"""Stopping all processes of a group at once: cgroup.freeze (v2), freezer.state (v1)."""

from __future__ import annotations

import os
import time

from sampan.errors import Unavailable
from sampan.linux.cgroup import controlfile, processes

_PATIENCE = 10.0


def freeze_v2(directory: str) -> None:
    """Freeze and wait until every process is. Raises Unavailable, thawed again, when one cannot be stopped."""
    controlfile.set_value(directory, "cgroup.freeze", "1")
    if not processes.wait_event(directory, "frozen 1", _PATIENCE):
        controlfile.set_value(directory, "cgroup.freeze", "0")
        raise Unavailable(f"unable to freeze cgroup {directory}: a process does not stop")


def thaw_v2(directory: str) -> None:
    """Thaw and wait until the group is."""
    controlfile.set_value(directory, "cgroup.freeze", "0")
    if not processes.wait_event(directory, "frozen 0", _PATIENCE):
        raise Unavailable(f"unable to thaw cgroup {directory}")


def freeze_v1(directory: str) -> None:
    """As `freeze_v2`. v1 has no event: the kernel looks at its tasks when freezer.state is read, so reading is it.

    A process that forked while the group froze may stay running; writing FROZEN again catches it.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        controlfile.set_value(directory, "freezer.state", "FROZEN")
        for _ in range(50):
            if controlfile.read(directory, "freezer.state").strip() == "FROZEN":
                return
            os.sched_yield()
    controlfile.set_value(directory, "freezer.state", "THAWED")
    raise Unavailable(f"unable to freeze cgroup {directory}: a process does not stop")


def thaw_v1(directory: str) -> None:
    """Thaw; done when the write returns."""
    controlfile.set_value(directory, "freezer.state", "THAWED")
