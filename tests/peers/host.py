"""What runtimes of others change of the host, and how it comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def v2_options() -> str:
    """Those of the host's v2 hierarchy, mount's and file system's; "" without one."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[4] == "/sys/fs/cgroup" and after.startswith("cgroup2 "):
            return f"{before.split(' ')[5]},{after.split(' ')[2]}"
    return ""


@contextmanager
def options_kept(runtime: str) -> Iterator[None]:
    """runc and crun take nsdelegate from it with a container that has no cgroup namespace of its own; we do not."""
    before = v2_options()
    try:
        yield
    finally:
        if runtime != "sampan-runtime" and v2_options() != before:
            subprocess.run(["mount", "-o", f"remount,{before}", "/sys/fs/cgroup"], check=True)
