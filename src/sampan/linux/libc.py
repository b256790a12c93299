"""The C library and raw system calls through ctypes, set up once at import.

`PyDLL` keeps the interpreter lock during a call: right for the single-threaded processes that start containers
(no lock to hand over), and required around clone3.
"""

from __future__ import annotations

import os

from sampan.lean import ctypes

lib = ctypes.PyDLL(None, use_errno=True)

_MACHINE = os.uname().machine
# From 424 on every architecture shares its numbers (include/uapi/asm-generic/unistd.h).
NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(_MACHINE, -1)
NR_CLONE = {"x86_64": 56, "aarch64": 220}.get(_MACHINE, -1)
NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_FSOPEN = 430
NR_FSCONFIG = 431
NR_FSMOUNT = 432
NR_FSPICK = 433
NR_CLONE3 = 435
NR_CLOSE_RANGE = 436
NR_OPENAT2 = 437
NR_PIDFD_GETFD = 438
NR_MOUNT_SETATTR = 442

_syscall = lib.syscall
_syscall.restype = ctypes.c_long


def syscall(number: int, *args: object) -> int:
    """A raw system call; arguments are ctypes values, ints that fit a C int, bytes or None. Raises OSError."""
    result: int = _syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise error()
    return result


def error(path: str | None = None) -> OSError:
    """The OSError of the last failed call, with the path it was about."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
