"""What processes cost, from /proc; and how those that the benchmark started are ended: by their pids, for sure."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def parents() -> dict[int, int]:
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stat = (directory / "stat").read_text(errors="replace")
            found[int(directory.name)] = int(stat.rpartition(") ")[2].split()[1])
    return found


def tree_of(pid: int) -> list[int]:
    """The process and everything below it."""
    table = parents()
    found = [pid]
    for one in found:
        found += [child for child, parent in table.items() if parent == one]
    return found


def pss(pid: int) -> int:
    """Proportional set size in bytes: its own pages, and its part of shared ones."""
    return _field(pid, "smaps_rollup", "Pss:")


def rss(pid: int) -> int:
    return _field(pid, "status", "VmRSS:")


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _field(pid: int, file: str, key: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def no_remains(cgroup: str) -> Iterator[contextlib.ExitStack]:
    """Ends whatever was started meanwhile, orphans too, and removes the cgroups of that name, behind all else."""
    with contextlib.ExitStack() as stack:
        stack.callback(remove_cgroups, cgroup)
        stack.callback(end_descendants)
        adopt_orphans()
        yield stack


def adopt_orphans() -> None:
    """From here on what our children leave behind becomes ours, not init's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    end(tree_of(os.getpid())[1:])


def remove_cgroups(name: str) -> None:
    """The directories of that name at the top of every hierarchy, and what is in them."""
    for top in [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]:
        for path, _, _ in os.walk(top, topdown=False):
            os.rmdir(path)


def end(pids: Iterable[int]) -> None:
    """SIGKILL, and wait until they are gone."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 10)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
