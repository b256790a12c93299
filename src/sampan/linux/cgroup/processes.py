"""The processes of a cgroup and of its sub-cgroups: listing, signalling, waiting for their end. No polling: pidfds."""

from __future__ import annotations

import errno
import os
import select
import time

from sampan.errors import Unavailable
from sampan.linux.cgroup import cgroupfs, controlfile
from sampan.linux.process import open_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable
else:
    import _signal  # without the enums of `signal`, which cost 2 ms

_ROUNDS = 1000
_BATCH = 400
_SPARE = 16
"""Descriptors left for what else is to be opened meanwhile."""
SIGKILL = 9


def listing(directory: str) -> list[int]:
    """The pids in a group and its sub-cgroups, as this process's pid namespace sees them, without those of another.

    Empty when the group is gone. Raises OSError.
    """
    pids: list[int] = []
    try:
        _read_procs(os.open(f"{directory}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC), pids)
        for parent_fd, name in cgroupfs.sub_groups(directory):
            try:
                fd = os.open(f"{name}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=parent_fd)
            except OSError as error:
                if error.errno in controlfile.GONE:
                    continue  # removed meanwhile: that one alone
                raise
            _read_procs(fd, pids)
    except OSError as error:
        if error.errno not in controlfile.GONE:
            raise
    return pids


def _read_procs(fd: int, pids: list[int]) -> None:
    data = b""
    try:
        while chunk := os.read(fd, 65536):
            data += chunk
    except OSError as error:
        # A threaded v2 group lists its processes in the domain above it; a group just removed has none.
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODEV):
            raise
    finally:
        os.close(fd)
    pids.extend(pid for pid in map(int, data.split()) if pid)


def _open_some(pids: list[int]) -> dict[int, int]:
    """Pidfds of the last of these that still exist, by pid; takes them off the list. The caller closes them.

    As many as there may be (RLIMIT_NOFILE), `_BATCH` at most: a container has more processes than we descriptors.
    """
    fds: dict[int, int] = {}
    try:
        while pids and len(fds) < _BATCH:
            try:
                fds[pids[-1]] = open_pidfd(pids[-1])
            except ProcessLookupError:
                pass
            except OSError as error:
                if error.errno != errno.EMFILE or len(fds) <= _SPARE:
                    raise
                for _ in range(_SPARE):
                    pid, fd = fds.popitem()
                    os.close(fd)
                    pids.append(pid)
                break
            pids.pop()
    except BaseException:
        close(fds.values())
        raise
    return fds


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def wait(pidfds: Iterable[int], timeout: float) -> bool:
    """Wait until all the processes have ended; False when `timeout` seconds were not enough."""
    deadline = time.monotonic() + timeout
    poller = select.poll()
    left = set(pidfds)
    for fd in left:
        poller.register(fd, select.POLLIN)
    while left:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        for fd, _event in poller.poll(remaining * 1000):
            poller.unregister(fd)
            left.discard(fd)
    return True


def signal_listed(directory: str, number: int, patience: float = 0.0) -> bool:
    """Signal every process the group lists now. With `patience` wait for their end; False when it took more seconds.

    A process is only signalled through a pidfd that was opened while the group listed its pid, when the group lists
    it still: so no reused pid outside the group is hit.
    """
    deadline = time.monotonic() + patience
    pids = listing(directory)
    while pids:
        pidfds = _open_some(pids)
        try:
            still = set(listing(directory)) if pidfds else set()
            reached = [fd for pid, fd in pidfds.items() if pid in still]
            for fd in reached:
                _signal_one(fd, number)
            if patience and not wait(reached, deadline - time.monotonic()):
                return False
        finally:
            close(pidfds.values())
    return True


def kill_and_wait(directory: str, timeout: float) -> None:
    """SIGKILL whatever is in the group until nothing is left. Raises Unavailable when that takes over `timeout` s."""
    deadline = time.monotonic() + timeout
    for _ in range(_ROUNDS):  # a fork bomb may be a step ahead; freezing first, where it can be done, ends that
        if not listing(directory):
            return
        left = deadline - time.monotonic()
        if left <= 0 or not signal_listed(directory, SIGKILL, left):
            break
    raise Unavailable(f"processes in cgroup {directory} do not end: {listing(directory)[:10]}")


def _signal_one(pidfd: int, number: int) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def wait_unpopulated(directory: str, timeout: float) -> bool:
    """v2: wait until no process is left in the group or below, or it is gone; False after `timeout` seconds."""
    try:
        return wait_event(directory, "populated 0", timeout)
    except OSError as error:
        if error.errno in controlfile.GONE:
            return True
        raise


def wait_event(directory: str, line: str, timeout: float) -> bool:
    """v2: wait until cgroup.events has that line. kernfs tells of each change by POLLPRI.

    Raises OSError, one of controlfile.GONE when the group is removed meanwhile.
    """
    deadline = time.monotonic() + timeout
    fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while line not in os.pread(fd, 4096, 0).decode().splitlines():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poller.poll(remaining * 1000)
    finally:
        os.close(fd)
    return True
