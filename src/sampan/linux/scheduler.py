"""When and where a thread runs, and its disk requests: sched_setattr(2), ioprio_set(2), sched_setaffinity(2)."""

from __future__ import annotations

import os
import struct

from sampan.lean import ctypes
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
"""Names of config.md, "scheduler". The kernel keeps SCHED_ISO's number free and answers EINVAL."""

FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IO_PRIORITIES = 8

MAX_CPUS = 8192
"""CPU numbers end here: CONFIG_NR_CPUS of the largest kernels."""

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
# struct sched_attr, first version: size, policy, flags, nice, priority, runtime, deadline, period
_ATTR = struct.Struct("=IIQiIQQQ")

_sched_setaffinity = libc.lib.sched_setaffinity
_NR_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(os.uname().machine, -1)
_NR_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30}.get(os.uname().machine, -1)


def set_attributes(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2) for the calling thread; the last three are nanoseconds, for SCHED_DEADLINE. Raises OSError."""
    attributes = _ATTR.pack(_ATTR.size, policy, flags, nice, priority, runtime, deadline, period)
    libc.syscall(_NR_SCHED_SETATTR, ctypes.c_int(0), attributes, ctypes.c_uint(0))


def set_io_priority(io_class: int, priority: int) -> None:
    """ioprio_set(2) for the calling thread. Raises OSError."""
    value = io_class << _IOPRIO_CLASS_SHIFT | priority
    libc.syscall(_NR_IOPRIO_SET, ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(0), ctypes.c_int(value))


def set_affinity(cpus: Iterable[int] | None) -> None:
    """sched_setaffinity(2) for the calling thread; None is every CPU there is, of which the kernel takes those that the
    cpuset allows. Raises OSError EINVAL when it may use none of them.
    """
    bits = (1 << MAX_CPUS) - 1 if cpus is None else sum(1 << cpu for cpu in cpus)
    mask = bits.to_bytes(MAX_CPUS // 8, "little")
    if _sched_setaffinity(ctypes.c_int(0), ctypes.c_size_t(len(mask)), mask) != 0:
        raise libc.error("sched_setaffinity")
