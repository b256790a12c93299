"""clone3(2), setns(2), unshare(2): new processes and namespaces."""

from __future__ import annotations

import os

from sampan.lean import ctypes
from sampan.linux import libc, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEWTIME = 0x00000080
NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUTS = 0x04000000
NEWIPC = 0x08000000
NEWUSER = 0x10000000
NEWPID = 0x20000000
NEWNET = 0x40000000
PIDFD = 0x00001000
PARENT = 0x00008000
INTO_CGROUP = 0x200000000

# Namespace names as the OCI runtime spec has them → flag, and the file below /proc/PID/ns.
NAMESPACES = {
    "user": (NEWUSER, "user"),
    "pid": (NEWPID, "pid"),
    "mount": (NEWNS, "mnt"),
    "network": (NEWNET, "net"),
    "ipc": (NEWIPC, "ipc"),
    "uts": (NEWUTS, "uts"),
    "cgroup": (NEWCGROUP, "cgroup"),
    "time": (NEWTIME, "time"),
}


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    )


# The interpreter must know of the fork (locks, the thread id it keeps, at-fork hooks), as with os.fork().
_before = libc.lib.PyOS_BeforeFork
_after_child = libc.lib.PyOS_AfterFork_Child
_after_parent = libc.lib.PyOS_AfterFork_Parent
for _function in (_before, _after_child, _after_parent):
    _function.restype = None
_unshare = libc.lib.unshare
_setns = libc.lib.setns


def clone3(flags: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """Fork with `flags` (NEW… and so on). Returns (pid, pidfd) in the parent, (0, -1) in the child.

    With PARENT the child is our parent's, which gets the same signal of its end as of ours. `cgroup_fd` is a v2 cgroup
    directory to be born in. Only for single-threaded processes: in the child Python goes
    on as after os.fork(). Raises OSError as clone3(2) does. The pidfd is close-on-exec and the caller's to close.
    """
    pidfd = ctypes.c_int(-1)
    exit_signal = 0 if flags & PARENT else signals.SIGCHLD
    args = _CloneArgs(flags=flags | PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=exit_signal)
    if cgroup_fd >= 0:
        args.flags |= INTO_CGROUP
        args.cgroup = cgroup_fd
    _before()
    pid = libc._syscall(ctypes.c_long(libc.NR_CLONE3), ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args)))
    if pid == 0:
        _after_child()
        return 0, -1
    number = ctypes.get_errno()
    _after_parent()
    if pid < 0:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return pid, pidfd.value


def clone_sibling() -> int:
    """A child of our parent, by clone(2): filters that forbid clone3, whose flags they cannot see, allow that. Returns
    its pid, 0 in it. Otherwise as `clone3`.
    """
    _before()
    zero = ctypes.c_long(0)
    pid: int = libc._syscall(ctypes.c_long(libc.NR_CLONE), ctypes.c_ulong(PARENT), zero, zero, zero, zero)
    if pid == 0:
        _after_child()
        return 0
    number = ctypes.get_errno()
    _after_parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return pid


def clone_by(call: Callable[[int, int], int], flags: int) -> None:
    """clone3 by `call(address of clone_args, size)`, which gives the kernel's result and returns in the new process
    alone (husk.py). Raises OSError, in the old one.
    """
    exit_signal = 0 if flags & PARENT else signals.SIGCHLD
    args = _CloneArgs(flags=flags, exit_signal=exit_signal)
    _before()
    result = call(ctypes.addressof(args), ctypes.sizeof(args))
    if result == 0:
        _after_child()
        return
    _after_parent()
    raise OSError(-result, f"clone3: {os.strerror(-result)}")


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    if _unshare(ctypes.c_int(flags)) != 0:
        raise libc.error("unshare")


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): `fd` is a namespace file (flags 0 or its kind) or a pidfd (flags: the kinds to join)."""
    if _setns(ctypes.c_int(fd), ctypes.c_int(flags)) != 0:
        raise libc.error("setns")
