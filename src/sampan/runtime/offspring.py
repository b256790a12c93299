"""A process of ours with a socket to us: its clone, the error it ends with, its end."""

from __future__ import annotations

import os
import select

from sampan.errors import Internal, SampanError, StartFailed, to_message
from sampan.jobs import channel as wire
from sampan.lean import imports
from sampan.linux import clone, process, signals
from sampan.runtime.operation import OperationFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn

_LONGEST = 8192


def clone_child(
    flags: int, pid_namespace: int, v2_cgroup: int | None, child: Callable[[socket.socket], None]
) -> tuple[int, int, socket.socket]:
    """clone3 with a socket between the two: `child` runs in the new process with its end and must not return.

    setns of a pid namespace decides where children are born, we stay where we are. Returns (pid, pidfd, our end);
    closes `v2_cgroup`.
    """
    ours, theirs = wire.pair()
    own = -1
    try:
        if pid_namespace >= 0:
            own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            clone.setns(pid_namespace, clone.NEWPID)
        pid, pidfd = clone.clone3(flags, -1 if v2_cgroup is None else v2_cgroup)
        if pid == 0:
            imports.without_files()
            try:
                child(theirs)
            finally:
                os._exit(127)
    except BaseException:
        ours.close()
        raise
    finally:
        if own >= 0:
            clone.setns(own, clone.NEWPID)
            os.close(own)
        if v2_cgroup is not None:
            os.close(v2_cgroup)
        theirs.close()
    return pid, pidfd, ours


def claim(pid: int, others: set[int]) -> int:
    """A pidfd of the child that a process of ours, itself one of `others`, bore for us (CLONE_PARENT).

    The number comes over a socket that the new process holds, too, and it is in a container: whoever may trace there
    can speak in its name. So only a child of ours that is none of `others` is believed to be it; nobody takes its exit
    but we, so its number stays its own. The caller closes the pidfd. Raises Internal.
    """
    try:
        ours = pid not in others and process.stat(pid).parent == os.getpid()
        if ours:
            return process.open_pidfd(pid)
    except (FileNotFoundError, ProcessLookupError):
        pass
    raise Internal(f"process {pid} is said to have been born, but is no new child of this one")


def guarded(sync: socket.socket, act: Callable[[], None]) -> NoReturn:
    """Run `act`; what it raises goes to the other side as one message, and the process ends."""
    try:
        act()
    except OperationFailed as error:
        _report(sync, StartFailed(f"failed to start the container: {error}"))
    except SampanError as error:
        _report(sync, error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _report(sync, StartFailed(f"failed to start the container: {where}{error.strerror or error}"))
    except BaseException as error:
        _report(sync, StartFailed(f"failed to start the container: {type(error).__name__}: {error}"))
    finally:  # whatever happens: our caller's frames are the runtime's own, and not for us to return to
        os._exit(127)


def _report(sync: socket.socket, error: SampanError) -> None:
    message = to_message(error)
    text = str(message["message"])[:_LONGEST]  # it may quote what is longer than a message can be
    message["message"] = text.encode(errors="replace").decode()  # or a name of a file, which may hold any bytes
    try:
        wire.send(sync, {"error": message})
    except OSError:
        os._exit(126)  # nobody is left to tell


def kill(pidfd: int) -> None:
    """SIGKILL a process and wait until it has ended; closes the pidfd."""
    try:
        signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except ProcessLookupError:
        pass
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)
