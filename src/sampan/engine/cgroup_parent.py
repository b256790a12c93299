"""The cgroup below which an engine's containers are: its own, or it would take another's containers for remains."""

from __future__ import annotations

import os
import re

from sampan.engine import claim
from sampan.linux.cgroup import Host
from sampan.linux.cgroup.cgroupfs import check_path

_GROUP = re.compile(r"[0-9a-f]{64}")


def hold(host: Host, parent: str) -> int:
    """Take `parent` for this engine, until the descriptor that is returned is closed; the kernel does so at its end.

    Raises InvalidArgument for the top of the hierarchies and for what is no path, Conflict when another engine has it.
    """
    name = check_path(parent)
    return claim.take(
        f"{_hierarchy(host)}/{name}",
        f"another engine's containers are below the cgroup {name}: give this one a --cgroup-parent of its own",
    )


def groups(host: Host, parent: str) -> set[str]:
    """The names below `parent` that are containers' ids, in any hierarchy. Others were made by somebody else."""
    found: set[str] = set()
    for root in {*host.v1.values(), host.v2} - {""}:
        try:
            found |= {name for name in os.listdir(f"{root}/{check_path(parent)}") if _GROUP.fullmatch(name)}
        except FileNotFoundError:
            continue
    return found


def _hierarchy(host: Host) -> str:
    """Any will do but cpuset (v1), where a group made without its settings is of no use to those below it."""
    return next((root for name, root in host.v1.items() if name != "cpuset"), host.v2)
