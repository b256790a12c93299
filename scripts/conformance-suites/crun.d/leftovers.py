"""What containers of a failed test leave: seen by their cgroups, ended, removed."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


class Leftovers:
    """Groups of the suite's containers that come after this is made."""

    def __init__(self) -> None:
        self._before = _groups()

    def remove(self) -> None:
        """End the processes of new groups, frozen ones too, and remove the groups."""
        new = sorted(_groups() - self._before, reverse=True)  # what lies below others first
        pids = {int(pid) for group in new for pid in (group / "cgroup.procs").read_text().split()}
        ends = [os.pidfd_open(pid) for pid in pids]
        for pidfd in ends:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for group in new:  # v1: what is frozen does not end
            if (group / "freezer.state").exists():
                (group / "freezer.state").write_text("THAWED")
        for pidfd in ends:
            select.select([pidfd], [], [])
            os.close(pidfd)
        for group in new:
            group.rmdir()


def _groups() -> set[Path]:
    """By the names that the suite gives."""
    return {path for name in ("test-tmp*", "container-[0-9]*", "frozen") for path in CGROUPS.glob(f"**/{name}")}
