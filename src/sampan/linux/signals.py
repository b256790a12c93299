"""Signals without the module `signal`, which brings `enum` and `re` (8 ms): the same functions and plain numbers."""

from __future__ import annotations

import os
import struct

from sampan.lean import ctypes
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable
else:
    import _signal

SIG_BLOCK = _signal.SIG_BLOCK
SIG_DFL = _signal.SIG_DFL
SIG_IGN = _signal.SIG_IGN
SIG_SETMASK = _signal.SIG_SETMASK
SIG_UNBLOCK = _signal.SIG_UNBLOCK
SIGCHLD = _signal.SIGCHLD
SIGCONT = _signal.SIGCONT
SIGHUP = _signal.SIGHUP
SIGINT = _signal.SIGINT
SIGKILL = _signal.SIGKILL
SIGPIPE = _signal.SIGPIPE
SIGQUIT = _signal.SIGQUIT
SIGSTOP = _signal.SIGSTOP
SIGTERM = _signal.SIGTERM
SIGTTIN = _signal.SIGTTIN
SIGTTOU = _signal.SIGTTOU
SIGWINCH = _signal.SIGWINCH
SIGXFSZ = _signal.SIGXFSZ
pidfd_send_signal = _signal.pidfd_send_signal
pthread_sigmask = _signal.pthread_sigmask
set_wakeup_fd = _signal.set_wakeup_fd
signal = _signal.signal
sigwait = _signal.sigwait
valid_signals = _signal.valid_signals

_INFO = 128  # struct signalfd_siginfo; its first member is the signal's number


def numbers() -> dict[str, int]:
    """All names of signal(7) with their numbers on this machine: {"SIGTERM": 15, …, "SIGRTMIN": 34, "SIGRTMAX": 64}."""
    return {
        name: int(getattr(_signal, name))
        for name in dir(_signal)
        if name.startswith("SIG") and not name.startswith("SIG_")
    }


def signalfd(wanted: Iterable[int]) -> int:
    """A descriptor, non-blocking and close-on-exec, that is readable when one of these signals waits (signalfd(2)).

    They are to be blocked (pthread_sigmask), or they end the process instead. The caller closes it. Raises OSError.
    """
    mask = bytearray(128)  # sigset_t
    for number in wanted:
        mask[(number - 1) // 8] |= 1 << (number - 1) % 8
    fd: int = libc.lib.signalfd(ctypes.c_int(-1), bytes(mask), ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise libc.error("signalfd")
    return fd


def take(fd: int) -> list[int]:
    """The numbers of the signals that wait at a signalfd, in the kernel's order; none: an empty list."""
    try:
        data = os.read(fd, _INFO * 64)
    except BlockingIOError:
        return []
    return [struct.unpack_from("I", data, at)[0] for at in range(0, len(data), _INFO)]
