"""Process 1 for `--init`: passes signals on, reaps orphans, ends as its child ends.

It never executes another program, so it stays non-dumpable: nobody inside without CAP_SYS_PTRACE can reach its
/proc/1/exe, the host's interpreter (CVE-2019-5736).
"""

from __future__ import annotations

import os

from sampan.linux import process, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_OWN = {signals.SIGCHLD, signals.SIGTTIN, signals.SIGTTOU, signals.SIGKILL, signals.SIGSTOP}


def fork_child(sync: socket.socket) -> None:
    """Fork. The child returns, to become the program; the parent stays as process 1 and never returns."""
    everything = signals.valid_signals()
    signals.pthread_sigmask(signals.SIG_BLOCK, everything)
    process.set_name("sampan-init")  # before the program can look; its own name comes with its execve
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        _take_terminal()
        return
    sync.close()
    process.close_from(3)  # it never execs, so nothing is closed by itself
    process.die_with_parent(signals.SIGKILL)
    os._exit(_serve(child))


def _take_terminal() -> None:
    """Be the terminal's foreground group, if there is a terminal: Ctrl-C must reach the program."""
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        pass  # stdin is no terminal of this session


def _serve(child: int) -> int:
    while True:
        received = signals.sigwait(signals.valid_signals())
        if received == signals.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status
        elif received not in _OWN:
            try:
                os.kill(child, received)
            except ProcessLookupError:
                pass  # it has just ended; its SIGCHLD follows


def _reap(child: int) -> int | None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
