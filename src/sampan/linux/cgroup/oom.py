"""To be woken when a group runs out of memory or nearly does: memory.oom_control and memory.pressure_level of v1 by
eventfd (Documentation/admin-guide/cgroup-v1/memory.rst), memory.events of v2 by inotify, PSI triggers (psi.rst).
"""

from __future__ import annotations

import os
import select
import time

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.inotify import IN_MODIFY, Inotify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEVELS = ("low", "medium", "critical")
"""Of memory pressure, v1's words."""

_STALL = {"low": "some 100000 1000000", "medium": "some 500000 1000000", "critical": "full 500000 1000000"}


class OomEvents:
    """Out-of-memory events of a group from now on. `fd` becomes readable (poll, epoll) when `take` has news."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths` as of Group.paths. Raises Unsupported without a memory controller, OSError."""
        self._directory = paths.get("memory") or paths.get(UNIFIED, "")
        self._v2 = "memory" not in paths
        self._inotify: Inotify | None = None
        if not controlfile.exists(self._directory, "memory.events" if self._v2 else "memory.oom_control"):
            raise Unsupported(f"no memory events: {self._directory or 'a group without paths'} has no such controller")
        if self._v2:
            self._inotify = Inotify()
            self.fd = self._inotify.fd
            try:
                for name in ("memory.events", "cgroup.events"):
                    _watch(self._inotify, f"{self._directory}/{name}")
            except BaseException:
                self.close()
                raise
        else:
            self.fd = _register(self._directory, "memory.oom_control", "")
        self._seen = self._count() or 0
        self._lived = self._v2 and not self._is_empty()

    def take(self) -> int | None:
        """How many more times memory ran out since the last call: processes killed, on v1 also processes stopped.

        0: something else happened. None: the group is gone, or on v2 its last process is; nothing more will come.
        Never blocks.
        """
        woken = self._clear()
        count = self._count()
        if count is None:
            return None
        if not self._v2:
            return woken
        new, self._seen = count - self._seen, count
        empty = self._is_empty()
        ended, self._lived = empty and self._lived, self._lived or not empty
        return None if new == 0 and ended else new

    def wait(self, timeout: float | None = None) -> int | None:
        """`take` once it has news: see there. 0 when `timeout` seconds passed without."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._v2 and (new := self.take()) != 0:  # what happened before the watch stood
            return new
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if not poller.poll(left):
                return 0
            new = self.take()
            if new != 0:
                return new

    def __iter__(self) -> Iterator[int]:
        """Waits for each event; ends with the group."""
        while (new := self.wait()) is not None:
            yield new

    def close(self) -> None:
        os.close(self.fd)

    def _count(self) -> int | None:
        name = "memory.events" if self._v2 else "memory.oom_control"
        try:
            return controlfile.parse_flat(controlfile.read(self._directory, name)).get("oom_kill", 0)
        except OSError as error:
            if error.errno in controlfile.GONE:
                return None
            raise

    def _is_empty(self) -> bool:
        try:
            return "populated 0" in controlfile.read(self._directory, "cgroup.events").splitlines()
        except OSError as error:
            if error.errno in controlfile.GONE:
                return True
            raise

    def _clear(self) -> int:
        if self._inotify is not None:
            self._inotify.clear()
            return 0
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0


def open_pressure(paths: Mapping[str, str], level: str) -> tuple[int, int]:
    """A descriptor that wakes its poller under memory pressure, and for which poll event: POLLIN (v1), POLLPRI (v2).

    `level` is low, medium or critical, as v1 has them. v2 wakes when processes waited for memory for 10 or 50 % of a
    second, critical: all of them for 50 %. POLLERR: the group is gone. On v1 read the eventfd after each wake-up. The
    caller closes it. Raises InvalidArgument, Unsupported, OSError.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"memory pressure is {', '.join(LEVELS)}, not {level!r}")
    if "memory" in paths:
        return _register(paths["memory"], "memory.pressure_level", level), select.POLLIN
    path = f"{paths.get(UNIFIED, '')}/memory.pressure"
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unsupported(f"this kernel does not measure memory pressure: there is no {path}") from error
    try:
        os.write(fd, _STALL[level].encode() + b"\0")
    except OSError as error:
        os.close(fd)
        raise controlfile.failed(error, path, _STALL[level]) from error
    return fd, select.POLLPRI


def _register(directory: str, name: str, argument: str) -> int:
    """v1: an eventfd that the kernel counts up for each event, and once more when the group is removed."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    watched = -1
    try:
        watched = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        controlfile.set_value(directory, "cgroup.event_control", f"{fd} {watched} {argument}".strip())
    except BaseException:
        os.close(fd)
        raise
    finally:
        if watched >= 0:
            os.close(watched)
    return fd


def _watch(inotify: Inotify, path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        inotify.watch(fd, IN_MODIFY)
    finally:
        os.close(fd)
