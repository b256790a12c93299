"""What a process may set about itself: prctl(2), close_range(2), sethostname(2), pivot_root(2), sessions, terminals."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from sampan.lean import ctypes
from sampan.lean.record import dataclass
from sampan.linux import libc

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CLOSE_RANGE_CLOEXEC = 4
TIOCSCTTY, _TIOCSWINSZ = 0x540E, 0x5414  # ioctl_tty(2), asm-generic/ioctls.h: loading termios takes 0.3 ms

_prctl = libc.lib.prctl
_sethostname = libc.lib.sethostname
_setdomainname = libc.lib.setdomainname
_prlimit = libc.lib.prlimit

# Names of getrlimit(2) as the OCI spec and Docker write them (Docker: without RLIMIT_, lower case); the numbers are
# asm-generic/resource.h's, which all but mips and sparc use.
RLIMITS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one unsigned long. Raises OSError."""
    zero = ctypes.c_ulong(0)
    result: int = _prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)
    if result < 0:
        raise libc.error("prctl")
    return result


def set_name(name: str) -> None:
    """The process's name in /proc/PID/comm, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(ctypes.c_int(PR_SET_NAME), buffer, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def close_from(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`. Raises OSError."""
    if first <= last:
        libc.syscall(libc.NR_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec (Linux 5.11). Raises OSError."""
    libc.syscall(
        libc.NR_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), ctypes.c_uint(CLOSE_RANGE_CLOEXEC)
    )


def close_all_but(keep: list[int]) -> None:
    """Close every descriptor from 3 on that is not in `keep`."""
    first = 3
    for fd in sorted(fd for fd in keep if fd >= 3):
        close_from(first, fd - 1)
        first = fd + 1
    close_from(first)


def sethostname(name: str) -> None:
    data = name.encode()
    if _sethostname(data, ctypes.c_size_t(len(data))) != 0:
        raise libc.error("sethostname")


def setdomainname(name: str) -> None:
    data = name.encode()
    if _setdomainname(data, ctypes.c_size_t(len(data))) != 0:
        raise libc.error("setdomainname")


def pivot_root_here() -> None:
    """Make the current directory, a mount point, the root: the old root is stacked on the same place.

    pivot_root(2), "pivot_root(".", ".")": needs no directory for the old root; the caller detaches "." next.
    """
    libc.syscall(libc.NR_PIVOT_ROOT, b".", b".")


def set_controlling_terminal(fd: int) -> None:
    """Make the terminal `fd` this session's controlling terminal; the caller is a session leader."""
    fcntl.ioctl(fd, TIOCSCTTY, 0)


def set_window_size(fd: int, height: int, width: int) -> None:
    """Rows and columns of a pty; the kernel sends SIGWINCH to its foreground group."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def set_rlimit(name: str, soft: int, hard: int) -> None:
    """setrlimit(2) by the name RLIMIT_…; -1 or 2**64-1 is unlimited. OSError carries the name."""
    wanted = struct.pack("=QQ", soft % (1 << 64), hard % (1 << 64))
    if _prlimit(ctypes.c_int(0), ctypes.c_int(RLIMITS[name]), wanted, None) != 0:
        raise libc.error(name)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us `signal_number` when our parent ends. Cleared by credential changes: set it last."""
    prctl(PR_SET_PDEATHSIG, signal_number)


def children() -> set[int]:
    """The pids of our children, those included that have ended and wait to be reaped.

    Empty on a kernel that does not list them (CONFIG_PROC_CHILDREN, proc(5)).
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as file:
            return {int(pid) for pid in file.read().split()}
    except FileNotFoundError:
        return set()


@dataclass(frozen=True)
class Stat:
    """Of /proc/PID/stat (proc_pid_stat(5)): fields 3, 4 and 22. `start_time` is in clock ticks since boot: with the pid
    it names one process, which no other one ever was or will be.
    """

    state: str
    parent: int
    start_time: int


def stat(pid: int) -> Stat:
    """Raises FileNotFoundError or ProcessLookupError when there is no such process."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096).decode("utf-8", "replace")
    finally:
        os.close(fd)
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything, spaces and parentheses too
    return Stat(fields[0], int(fields[1]), int(fields[19]))


def open_pidfd(pid: int) -> int:
    """pidfd_open(2); the caller closes it. Raises ProcessLookupError when there is no such process.

    Older kernels (6.1 seen) say EINVAL where the number is a group's or session's still: of what it left running.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.EINVAL and pid > 0:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
        raise


def take_descriptor(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a copy of descriptor `number` of another process, close-on-exec; the caller closes it.

    Raises OSError: EPERM unless we may trace the process, EBADF when it has no such descriptor.
    """
    return libc.syscall(libc.NR_PIDFD_GETFD, ctypes.c_int(pidfd), ctypes.c_int(number), ctypes.c_uint(0))


def next_descriptor() -> int:
    """The number that the next descriptor of this process gets: the lowest that is free (open(2))."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.close(read_end)
    os.close(write_end)
    return min(read_end, write_end)
