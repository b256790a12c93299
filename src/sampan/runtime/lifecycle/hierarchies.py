"""Which of the host's cgroup hierarchies containers use. Known before anything is made; the rest is in cgroups.py."""

from __future__ import annotations

from sampan.errors import Unsupported
from sampan.linux.cgroup.host import Host, detect


def choose(rootless: bool) -> Host | None:
    """The hierarchies to use: on hybrid hosts v1 alone (docs/architecture.md). None: rootless, and there are none."""
    try:
        return detect(others=True).without_v2()
    except Unsupported:
        if rootless:
            return None
        raise
