"""How a process gets into a group.

The cheapest way in (measured on Linux 6.18, two cores; µs where not said otherwise):

    a process that moves itself: "0" to `tasks` of each v1 hierarchy     17 each, 60 for cpu
    the parent moves it: its pid to cgroup.procs or tasks                same, but the first after a pause 7–15 ms
    born in it: clone3(CLONE_INTO_CGROUP), v2 only                       next to nothing

Moving somebody else, or a whole thread group, takes the kernel's threadgroup lock for writing, which waits for an RCU
grace period unless somebody did so a moment ago. A single thread that moves itself by `tasks` does not need that lock.
So: `fds = group.open_join_fds()`, clone3 into `group.open_v2_fd()`, and the child calls `join(fds)` before it execs,
forks or makes its cgroup namespace (a cgroup namespace's root is where its maker is at that moment).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def join(fds: Iterable[int]) -> None:
    """Move the calling, single-threaded process into a group, by `Group.open_join_fds`. Closes nothing."""
    for fd in fds:
        os.write(fd, b"0")
