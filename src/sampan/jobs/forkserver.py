"""A warm fork server: small, single-threaded, everything imported, garbage frozen; it only forks.

    asker                         server                         job (forked)
      │ {"job","args"} + fds[0]=socket of the job, fds[1:]          │
      ├──────────────────────────▶│ fork ─────────────────────────▶│ table[job](channel, args, fds)
      │◀────────────────── {"progress": …}* over the job's socket ──┤
      │◀──────────── {"result": …} or {"error": …}, then the end ───┘

The server ends when its asker closes the socket. `bound` jobs end with the server (a half-unpacked layer is of no use
to anybody); others outlive it (a shim keeps its container).
"""

from __future__ import annotations

import gc
import os
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


Job = Callable[[Channel, dict[str, Any], list[int]], dict[str, Any]]


def serve(sock: socket.socket, table: Mapping[str, Job], bound: bool) -> None:
    """Fork a process per request until the asker closes `sock`. The kernel reaps the children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the engine's terminal is the engine's to handle
    gc.collect()
    gc.freeze()
    gc.disable()
    while (received := wire.receive(sock)) is not None:
        request, fds = received
        if not fds:
            continue
        if os.fork() == 0:
            if bound:
                process.die_with_parent(signal.SIGKILL)
            sock.close()
            _child(table, request, fds)
        for fd in fds:
            os.close(fd)


def _child(table: Mapping[str, Job], request: dict[str, Any], fds: list[int]) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
    wire.send(channel.sock, {"pid": os.getpid()}, [pidfd])
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


def main(table: Mapping[str, Job], bound: bool) -> None:
    """Entry of `python -m MODULE FD`: serve `table` on the inherited socket."""
    process.close_all_but([int(sys.argv[1])])
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.set_inheritable(False)
        serve(sock, table, bound)
