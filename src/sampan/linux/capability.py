"""capabilities(7): names, numbers, and the five sets of a process.

Order for a process that becomes somebody else (all calls need nothing but this module, loaded before):

    drop_bounding(keep)      while CAP_SETPCAP is still effective
    keep_over_setuid(True)   else setresuid(2) from 0 clears the permitted set
    setgroups, setresgid, setresuid
    keep_over_setuid(False)
    set_sets(...)            the final effective, permitted and inheritable sets
    set_ambient(mask)        a subset of permitted and inheritable, or the kernel says EPERM

A set is a bit mask (int): bit N is capability number N.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.lean import ctypes
from sampan.lean.record import dataclass
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

NAMES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)
"""All capability names; a name's index is its number (linux/capability.h)."""

NUMBERS: Final[Mapping[str, int]] = {name: number for number, name in enumerate(NAMES)}

PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_prctl = libc.lib.prctl
_capset = libc.lib.capset


@dataclass(frozen=True)
class Sets:
    """The five sets of a thread, each a bit mask."""

    bounding: int
    effective: int
    inheritable: int
    permitted: int
    ambient: int


def to_mask(names: Iterable[str]) -> int:
    """The bit mask of capability names ("CAP_CHOWN"). Raises InvalidArgument for a name that is none."""
    mask = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is None:
            raise InvalidArgument(f"unknown capability: {name}")
        mask |= 1 << number
    return mask


def known_mask(names: Iterable[str], last: int) -> tuple[int, list[str]]:
    """The bit mask of the names up to number `last`, and the names that are none."""
    mask, unknown = 0, []
    for name in names:
        number = NUMBERS.get(name)
        if number is None or number > last:
            unknown.append(name)
        else:
            mask |= 1 << number
    return mask, unknown


def to_names(mask: int) -> list[str]:
    """The names of a bit mask, in the kernel's order; a bit newer than our table is "CAP_<number>"."""
    return [
        NAMES[number] if number < len(NAMES) else f"CAP_{number}"
        for number in range(mask.bit_length())
        if mask >> number & 1
    ]


def last_cap() -> int:
    """The highest capability number of this kernel."""
    return int(_read("/proc/sys/kernel/cap_last_cap"))


def read(pid: int | str = "self") -> Sets:
    """The sets of a process, from proc(5). Raises FileNotFoundError when there is no such process."""
    found = {}
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Cap"):
            key, _, value = line.partition(b":")
            found[key] = int(value, 16)
    return Sets(found[b"CapBnd"], found[b"CapEff"], found[b"CapInh"], found[b"CapPrm"], found.get(b"CapAmb", 0))


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def drop_bounding(keep: int, last: int) -> None:
    """Remove every capability up to number `last` that is not in `keep` from the bounding set, for ever."""
    for number in range(last + 1):
        if not keep >> number & 1:
            _check_prctl("PR_CAPBSET_DROP", PR_CAPBSET_DROP, number)


def keep_over_setuid(keep: bool) -> None:
    """PR_SET_KEEPCAPS: let the permitted set survive a change from uid 0 to another. execve(2) resets it."""
    _check_prctl("PR_SET_KEEPCAPS", PR_SET_KEEPCAPS, int(keep))


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread. Raises PermissionError when permitted would grow."""
    data = (_Data * 2)(
        _Data(effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF),
        _Data(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    if _capset(ctypes.byref(_Header(LINUX_CAPABILITY_VERSION_3, 0)), data) != 0:
        raise libc.error(f"capset effective={effective:x} permitted={permitted:x} inheritable={inheritable:x}")


def set_ambient(mask: int) -> None:
    """Make the ambient set `mask`. CVE-2016-8867: the old set never stays."""
    _check_prctl("PR_CAP_AMBIENT_CLEAR_ALL", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(mask.bit_length()):
        if mask >> number & 1:
            _check_prctl(f"PR_CAP_AMBIENT_RAISE {number}", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def set_all(sets: Sets, last: int) -> None:
    """All five sets at once, for a process that keeps its uid."""
    drop_bounding(sets.bounding, last)
    set_sets(sets.effective, sets.permitted, sets.inheritable)
    set_ambient(sets.ambient)


def _check_prctl(what: str, option: int, argument: int, second: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    if _prctl(ctypes.c_int(option), ctypes.c_ulong(argument), ctypes.c_ulong(second), zero, zero) != 0:
        raise libc.error(f"prctl {what} {argument}")
