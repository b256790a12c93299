"""Groups of a test, and processes in them."""

from __future__ import annotations

import mmap
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from sampan.linux import clone
from sampan.linux.cgroup import Group, Host, detect, join, prune

MIB = 1 << 20
PARENT = f"sampan-test-{os.getpid()}"


@cache
def host() -> Host:
    return detect()


@contextmanager
def groups() -> Iterator[Callable[..., Group]]:
    """Yields `create(name, **options)`; removes the groups and their parent at the end."""
    made: list[Group] = []

    def create(name: str = "one", **options: list[str]) -> Group:
        made.append(Group.create(host(), f"{PARENT}/{name}", **options))
        return made[-1]

    try:
        yield create
    finally:
        for group in made:
            group.remove()
        for group in made:
            prune(group.host, os.path.dirname(group.path))


def has(group: Group, controller: str) -> bool:
    """Whether limits of a controller hold in the group: v1's, or v2's on hosts with that alone."""
    return controller in group.paths() or (group.host.mode == "v2" and controller in group.host.v2_controllers)


@dataclass
class Child:
    pid: int
    pidfd: int

    def wait(self) -> int:
        """Exit status, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)

    def ended(self, timeout: float = 5) -> bool:
        return bool(select.select([self.pidfd], [], [], timeout)[0])


def spawn(group: Group | None, action: Callable[[], int]) -> Child:
    """A child that joins the group as the runtime's do, and then does something."""
    fds = group.open_join_fds() if group else []
    v2 = group.open_v2_fd() if group else None
    pid, pidfd = clone.clone3(0, -1 if v2 is None else v2)
    if pid == 0:
        status = 99
        try:
            join(fds)
            status = action()
        finally:
            os._exit(status)
    for fd in [*fds, *([] if v2 is None else [v2])]:
        os.close(fd)
    return Child(pid, pidfd)


def pause() -> int:
    while True:
        signal.pause()


def started(group: Group, action: Callable[[], int] = pause) -> Child:
    """A child that is in the group already."""
    reader, writer = os.pipe()

    def tell() -> int:
        os.write(writer, b"x")
        return action()

    child = spawn(group, tell)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return child


def touch(size: int) -> int:
    memory = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    return 0


def burn_until_killed() -> int:
    while True:
        pass
