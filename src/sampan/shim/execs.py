"""The processes that exec put into the container: each with its own stdio and exit status."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from sampan.errors import InvalidArgument, NotFound
from sampan.linux import process
from sampan.linux.cgroup import Group
from sampan.runtime import enter, identity
from sampan.shim.loop import READ, Loop
from sampan.shim.messages import ExecRequest
from sampan.shim.stdio import Pipes, Stdio


class Exec:
    """One process, until it has ended and its client has everything."""

    def __init__(self, request: ExecRequest, joined: enter.Joined, stdio: Stdio) -> None:
        self.id = request.id
        self.pid = joined.pid
        self.pidfd = joined.pidfd
        self.stdio = stdio


class Execs:
    """`tell(event)` gets {"event": "exec_exited", "id", "status"}; the client is let go when the engine says it knows
    (`acknowledge`): a client that asks for the exit code at once must not hear "running".
    """

    def __init__(self, loop: Loop, group: Callable[[], Group], tell: Callable[[dict[str, Any]], bool]) -> None:
        self._loop = loop
        self._group = group
        self._tell = tell
        self._running: dict[str, Exec] = {}
        self._ended: dict[str, Exec] = {}

    def start(self, request: ExecRequest, init_pidfd: int, init_pid: int, sock: socket.socket | None) -> int:
        """Start a process; returns its pid on the host. Raises StartFailed. Takes the client's socket."""
        pipes = Pipes.make(request.process.terminal, request.open_stdin)
        try:
            group = self._group()
            filter = identity.read_filter(request.seccomp)
            joined = enter.start(request.process, init_pidfd, init_pid, group, pipes.child, filter)
        except BaseException:
            pipes.close()
            if sock is not None:
                sock.close()
            raise
        pipes.close_child()
        self.follow(request, joined, pipes, sock)
        return joined.pid

    def follow(
        self, request: ExecRequest, joined: enter.Joined, pipes: Pipes, sock: socket.socket | None
    ) -> None:
        """It runs: serve its stdio, tell its end."""
        clients = [(sock, request.client)] if sock is not None and request.client is not None else []
        running = Exec(request, joined, Stdio(self._loop, pipes, joined.console, True, None, clients))
        self._running[running.id] = running
        self._loop.watch(joined.pidfd, READ, lambda events: self._on_exit(running))

    def resize(self, exec_id: str, height: int, width: int) -> None:
        running = self._running.get(exec_id)
        if running is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        resize(running.stdio, height, width)

    def running(self) -> dict[str, int]:
        """Exec id → pid, for an engine that has just come."""
        return {running.id: running.pid for running in self._running.values()}

    def acknowledge(self, exec_id: str) -> None:
        ended = self._ended.pop(exec_id, None)
        if ended is not None:
            ended.stdio.finish_clients()

    def acknowledge_all(self) -> None:
        """No engine is there to ask for an exit code."""
        for exec_id in list(self._ended):
            self.acknowledge(exec_id)

    def end_all(self) -> list[Stdio]:
        """The container's init has ended, and with it all of these. Returns the stdio that may still have clients."""
        for running in list(self._running.values()):
            self._on_exit(running)
        stdios = [ended.stdio for ended in self._ended.values()]
        self.acknowledge_all()
        return stdios

    def _on_exit(self, running: Exec) -> None:
        status = reap(running.pid)
        self._loop.forget(running.pidfd)
        os.close(running.pidfd)
        del self._running[running.id]
        running.stdio.drain()
        self._ended[running.id] = running
        if not self._tell({"event": "exec_exited", "id": running.id, "status": status}):
            self.acknowledge(running.id)


def reap(pid: int) -> int:
    """Take a child's exit: the exit code, or 128 + signal. Blocks until it has ended."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def resize(stdio: Stdio, height: int, width: int) -> None:
    if stdio.console < 0:
        raise InvalidArgument("cannot resize: the process has no terminal")
    process.set_window_size(stdio.console, height, width)
