"""Signals without the module `signal`, which brings `enum` and `re` (8 ms): the same functions and plain numbers."""

from __future__ import annotations

__all__ = [
    "SIGCHLD", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTERM", "SIGTTIN",
    "SIGTTOU", "SIGWINCH", "SIGXFSZ", "SIG_BLOCK", "SIG_DFL", "SIG_IGN", "SIG_SETMASK", "SIG_UNBLOCK", "numbers",
    "pidfd_send_signal", "pthread_sigmask", "set_wakeup_fd", "signal", "sigwait", "valid_signals",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from signal import (
        SIG_BLOCK,
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIG_UNBLOCK,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGQUIT,
        SIGSTOP,
        SIGTERM,
        SIGTTIN,
        SIGTTOU,
        SIGWINCH,
        SIGXFSZ,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
        sigwait,
        valid_signals,
    )
else:
    import _signal
    from _signal import (
        SIG_BLOCK,
        SIG_DFL,
        SIG_IGN,
        SIG_SETMASK,
        SIG_UNBLOCK,
        SIGCHLD,
        SIGCONT,
        SIGHUP,
        SIGINT,
        SIGKILL,
        SIGPIPE,
        SIGQUIT,
        SIGSTOP,
        SIGTERM,
        SIGTTIN,
        SIGTTOU,
        SIGWINCH,
        SIGXFSZ,
        pidfd_send_signal,
        pthread_sigmask,
        set_wakeup_fd,
        signal,
        sigwait,
        valid_signals,
    )


def numbers() -> dict[str, int]:
    """All names of signal(7) with their numbers on this machine: {"SIGTERM": 15, …, "SIGRTMIN": 34, "SIGRTMAX": 64}."""
    return {
        name: int(getattr(_signal, name))
        for name in dir(_signal)
        if name.startswith("SIG") and not name.startswith("SIG_")
    }
