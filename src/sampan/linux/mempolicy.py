"""On which memory nodes a process's pages are made: set_mempolicy(2)."""

from __future__ import annotations

import os

from sampan.lean import ctypes
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}
"""Names of config-linux.md, "Memory policy" (linux/mempolicy.h)."""

FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}

WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
MAX_NODES = 1024
"""Node numbers end here: CONFIG_NODES_SHIFT is at most 10."""

_NR_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237}.get(os.uname().machine, -1)


def set_policy(mode: int, nodes: Iterable[int]) -> None:
    """The policy of the calling thread; `mode` with its flags. Inherited over fork and execve. Raises OSError."""
    mask = sum(1 << node for node in nodes)
    if not mask:
        libc.syscall(_NR_SET_MEMPOLICY, ctypes.c_int(mode), None, ctypes.c_ulong(0))
        return
    # the kernel reads one bit less than `maxnode` says (set_mempolicy(2), "BUGS")
    libc.syscall(
        _NR_SET_MEMPOLICY, ctypes.c_int(mode), mask.to_bytes(MAX_NODES // 8, "little"), ctypes.c_ulong(MAX_NODES + 1)
    )
