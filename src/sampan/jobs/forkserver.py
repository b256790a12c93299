"""A warm fork server: small, single-threaded, everything imported, garbage frozen; it only forks.

    asker                    server            spare (forked ahead, its pages touched, waiting)
      │                        │ fork ────────────▶│
      │ {"job","args"} + fds[0]=socket of the job, fds[1:]
      ├───────────────────────────────────────────▶│ now it is the job: table[job](channel, args, fds)
      │                        │◀── its pid ───────┤
      │                        │ fork the next     │
      │◀── {"pid"} + pidfd, {"progress": …}* ──────┤   over the job's socket
      │◀── {"result": …} or {"error": …}, the end ─┤

All spares wait on the one socket from the asker: the kernel gives each request to one of them, so the server itself is
not on the way of a request, and neither is a fork with the page faults that follow it.

The server ends when its asker closes the socket. `bound` jobs end with the server (a half-unpacked layer is of no use
to anybody); others outlive it (a shim keeps its container).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from sampan.errors import InvalidArgument, to_message
from sampan.jobs import channel as wire
from sampan.linux import process


class Channel:
    """A job's way to talk to its asker."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def progress(self, message: dict[str, Any]) -> None:
        """Tell the asker how far the job is. Raises BrokenPipeError when the asker is gone."""
        wire.send(self.sock, {"progress": message})


_WARM_ROUNDS = 20
# Milliseconds of rest before a spare is replaced while another still waits: forking and warming it would take the
# processor from the very request that took the spare. When none is left, the next is forked at once.
_SETTLE = 30

Job = Callable[[Channel, dict[str, Any], list[int]], dict[str, Any]]


def serve(
    sock: socket.socket, table: Mapping[str, Job], bound: bool, spares: int = 1,
    warm: Callable[[int], None] | None = None, prepare: Callable[[], None] | None = None,
) -> None:
    """Keep `spares` processes waiting for requests until the asker closes `sock`. The kernel reaps them.

    `warm(rounds)` runs here, often enough for the interpreter to specialise code; `prepare()` in each spare, to do
    ahead what needs no request.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the engine's terminal is the engine's to handle
    if warm is not None:
        warm(_WARM_ROUNDS)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    sock.setblocking(False)
    taken, take = os.pipe2(os.O_CLOEXEC)
    alive, keep_alive = os.pipe2(os.O_CLOEXEC)
    poll = select.poll()
    poll.register(taken, select.POLLIN)
    poll.register(sock, 0)  # only its hang-up: requests are the spares' to read
    waiting: dict[int, int] = {}  # pidfd → pid of the spares
    missing = spares
    while True:
        for _ in range(missing):
            pid = os.fork()
            if pid == 0:
                os.close(taken)
                os.close(keep_alive)
                _spare(sock, take, alive, table, bound, prepare)
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:  # it has served a waiting request already, and the kernel has reaped it
                continue
            waiting[pidfd] = pid
            poll.register(pidfd, select.POLLIN)
        ready = poll.poll(_SETTLE if 0 < len(waiting) < spares else None)
        for fd, _ in ready:
            if fd == sock.fileno():
                return
            if fd == taken:
                number = int.from_bytes(os.read(taken, 4), "little")
                fd = next((pidfd for pidfd, pid in waiting.items() if pid == number), -1)
            if waiting.pop(fd, None) is not None:  # it has a job now, or somebody killed it
                poll.unregister(fd)
                os.close(fd)
        missing = 0 if ready and waiting else spares - len(waiting)


def _spare(
    sock: socket.socket, take: int, alive: int, table: Mapping[str, Job], bound: bool,
    prepare: Callable[[], None] | None,
) -> NoReturn:
    """Wait for a request, then be its job. A spare ends with its server, or nobody would fork the next."""
    own = os.getpid()  # `prepare` may leave the job to another process
    if bound:
        process.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if prepare is not None:
        prepare()
    request, fds = _await_request(sock, alive)
    os.write(take, own.to_bytes(4, "little"))
    os.close(take)
    os.close(alive)
    sock.close()
    be_job(table, request, fds)


def _await_request(sock: socket.socket, alive: int) -> tuple[dict[str, Any], list[int]]:
    """The next request that no other spare takes first. Ends the process with the asker or the server."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(alive, 0)  # hangs up with the server, however that ends
    while True:
        ready = dict(poll.poll())
        if alive in ready:
            os._exit(0)
        try:
            received = wire.receive(sock)
        except BlockingIOError:
            continue
        if received is None or not received[1]:
            os._exit(0)
        return received


def be_job(table: Mapping[str, Job], request: dict[str, Any], fds: list[int]) -> NoReturn:
    """Serve one request and end; `fds` begins with the job's socket. What else the process has open is the caller's."""
    status = 1
    try:
        channel = Channel(socket.socket(fileno=fds[0]))
        _run(channel, table, request, fds[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _run(channel: Channel, table: Mapping[str, Job], request: dict[str, Any], fds: list[int]) -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        wire.send(channel.sock, {"pid": os.getpid()}, [pidfd])
    except (BrokenPipeError, ConnectionResetError):
        return  # the asker left before we began: there is nothing to do
    os.close(pidfd)
    try:
        job = table.get(str(request.get("job")))
        if job is None:
            raise InvalidArgument(f"no job named {request.get('job')!r}")
        answer = {"result": job(channel, request["args"], fds)}
    except Exception as error:
        answer = {"error": to_message(error)}
        if answer["error"]["kind"] == "Internal":
            sys.excepthook(*sys.exc_info())
    if channel.sock.fileno() < 0:
        return  # the job has closed it: it has nothing more to say
    try:
        wire.send(channel.sock, answer)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the asker is gone, and with it the one who wanted to know


def main(
    table: Mapping[str, Job], bound: bool, spares: int = 1, warm: Callable[[int], None] | None = None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Entry of `python -m MODULE FD`: serve `table` on the inherited socket."""
    process.close_all_but([int(sys.argv[1])])
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.set_inheritable(False)
        serve(sock, table, bound, spares, warm, prepare)
