"""sd_notify(3) out of a container, as runc has it: its program says READY=1, the service manager hears it from us.

    create       ROOT/ID/notify made, bound read-only on /run/notify inside; NOTIFY_SOCKET=/run/notify/notify.sock
    start, run   listens there before the program runs
                 ◀── READY=1 ── the program
                 ── READY=1, MAINPID ──▶ the runtime's own NOTIFY_SOCKET, the service manager's

The program cannot reach the manager's own socket: that would take its word for a pid of another namespace. Nothing of
what it writes is passed on but the fact that it is ready.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

from sampan.lean.record import dataclass
from sampan.linux import unix_socket
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from sampan.runtime.lifecycle.create import CreateOptions
    from sampan.runtime.lifecycle.records import Entry

_DIRECTORY, _SOCKET, _INSIDE = "notify", "notify.sock", "/run/notify"
_MAX = 4096
_BARRIER_PATIENCE = 30_000  # ms; a manager that does not know of barriers (systemd before 246) never answers


def prepare(entry: Entry, spec: oci.Spec, options: CreateOptions) -> None:
    """The create's part: the directory, its mount, the program's environment (an exec does not get it)."""
    os.mkdir(_DIRECTORY, 0o755, dir_fd=entry.fd)
    source = f"{entry.root}/{entry.id}/{_DIRECTORY}"
    spec.mounts.append(
        oci.Mount(destination=_INSIDE, source=source, options=["bind", "nosuid", "noexec", "nodev", "ro"])
    )
    options.env.append(f"NOTIFY_SOCKET={_INSIDE}/{_SOCKET}")


def listen(entry: Entry, host: str) -> Relay | None:
    """Who listens to the program, to be had before it runs; None when the container was made without, or does not wait
    for its start. The entry is locked. `host` is the manager's socket: a path, or "@" and an abstract name.

    Raises OSError.
    """
    if not status.waits_for_start(entry):
        return None
    record = entry.read()
    try:
        directory = os.open(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.fd)
    except FileNotFoundError:
        return None
    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    )
    before = os.umask(0)  # for any user inside; a chmod later, by name, could meet another file
    try:
        if _SOCKET in os.listdir(directory):
            os.unlink(_SOCKET, dir_fd=directory)  # of a start that failed
        unix_socket.bind_at(sock, directory, _SOCKET)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return Relay(sock, host, record.pid, os.pidfd_open(record.pid))


@dataclass
class Relay:
    """A context manager; `sock` is readable when the program, process `pid`, has said something. `trouble`: why the
    manager could not be told; that is no reason to end the container.
    """

    sock: _socket.socket
    host: str
    pid: int
    pidfd: int
    ready: bool = False
    trouble: str = ""

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()
        os.close(self.pidfd)

    def pass_on(self, main_pid: int) -> None:
        """Take in what is there. The first READY=1 goes to the manager, with `main_pid` to watch, or into `trouble`."""
        while (text := self._said()) is not None:
            if not self.ready and b"READY=1" in text.split(b"\n"):
                self.ready = True
                self._tell(f"READY=1\nMAINPID={main_pid}\n".encode())

    def wait(self) -> None:
        """Return when the program is ready and the manager knows, or when it has ended."""
        poll = select.poll()
        for fd in (self.sock.fileno(), self.pidfd):
            poll.register(fd, select.POLLIN)
        while not self.ready:
            arrived = {fd for fd, _ in poll.poll()}
            self.pass_on(self.pid)
            if self.pidfd in arrived and not self.ready:
                return
        if not self.trouble:
            self._await_manager()

    def _said(self) -> bytes | None:
        try:
            return self.sock.recv(_MAX)  # descriptors that come with it are closed by the kernel: none is asked for
        except BlockingIOError:
            return None

    def _await_manager(self) -> None:
        """sd_notify_barrier(3): before we end, or the manager could not tell any more whose word it was."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._tell(b"BARRIER=1", writing)
        finally:
            os.close(writing)
        poll = select.poll()
        poll.register(reading, 0)  # the hang-up
        poll.poll(_BARRIER_PATIENCE)
        os.close(reading)

    def _tell(self, text: bytes, fd: int = -1) -> None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            if self.host.startswith("@"):
                sock.connect("\0" + self.host[1:])
            else:
                unix_socket.connect(sock, self.host)
            rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
            sock.sendmsg([text], rights, _socket.MSG_NOSIGNAL)
        except OSError as error:
            self.trouble = f"cannot tell {self.host} that the container is ready: {error.strerror or error}"
        finally:
            sock.close()
