"""What a container is at this moment (runtime.md, "State"): asked of the kernel, not of what was written down."""

from __future__ import annotations

import _socket
import os
import select

from sampan.errors import NotFound
from sampan.linux import process, unix_socket
from sampan.runtime.lifecycle.records import START_SOCKET, Entry, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"


def of(entry: Entry, record: Record | None = None) -> str:
    """creating, created, running, paused or stopped. A create that was killed half-way is stopped."""
    if record is None:
        try:
            record = entry.read()
        except NotFound:
            return CREATING if entry.in_use() else STOPPED
    if not record.pid:
        return CREATING if entry.in_use() else STOPPED
    if not is_alive(record):
        return STOPPED
    group = entry.group(record)
    if group is not None and group.frozen():
        return PAUSED
    return CREATED if waits_for_start(entry) else RUNNING


def is_alive(record: Record) -> bool:
    """Whether its process 1 runs: the very one, not another that got its pid, and not only its exit status."""
    try:
        found = process.stat(record.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return found.start_time == record.start_time and (found.state not in "ZX" or _has_other_threads(record.pid))


def _has_other_threads(pid: int) -> bool:
    """A process whose first thread has ended looks like a zombie while others run; its pidfd knows better."""
    try:
        pidfd = process.open_pidfd(pid)
    except ProcessLookupError:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(0))
    os.close(pidfd)
    return not ended


def open_pidfd(record: Record) -> int:
    """A pidfd of the container's process 1, surely it. Raises NotFound when it has ended. The caller closes it."""
    if record.pid:
        try:
            fd = process.open_pidfd(record.pid)
        except ProcessLookupError:
            raise NotFound("container not running") from None
        if is_alive(record):
            return fd
        os.close(fd)
    raise NotFound("container not running")


def waits_for_start(entry: Entry) -> bool:
    """Whether the init stage still listens for `start`: once the program runs, the socket is closed."""
    try:
        connect(entry).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        pass  # it listens
    return True


def connect(entry: Entry) -> socket.socket:
    """A connection to the init stage that waits for `start`. Raises FileNotFoundError, ConnectionRefusedError.

    BlockingIOError when it takes none: somebody who shares its pid namespace may have stopped it (SIGSTOP), and then we
    would wait as long as that one likes.
    """
    sock: Any = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        unix_socket.connect_at(sock, entry.fd, START_SOCKET)
        sock.setblocking(True)
    except BaseException:
        sock.close()
        raise
    return sock  # type: ignore[no-any-return]
