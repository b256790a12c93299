"""One container's shim: its init's parent from the clone to the exit status."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from sampan.errors import InvalidArgument, SampanError, to_message
from sampan.jobs import channel as wire
from sampan.linux import process
from sampan.linux.cgroup import Group, stats
from sampan.runtime import container
from sampan.shim import arrival
from sampan.shim.complaint import complain
from sampan.shim.execs import Execs, reap, resize
from sampan.shim.log import LogFile, now
from sampan.shim.loop import BROKEN, READ, Loop
from sampan.shim.messages import (
    EXIT_FILE,
    ClientOptions,
    ExecRequest,
    Exit,
    Setup,
    Started,
)
from sampan.shim.stdio import Pipes, Stdio

Answer = tuple[dict[str, Any], list[int]]
"""A message and the descriptors that go with it."""

Again = Callable[[socket.socket, dict[str, Any], list[int]], NoReturn]
"""Serves a request and its descriptors; the socket leads to the shim."""

_LINGER = 10.0  # seconds a client may make no progress taking the last output


def keep(starter_sock: socket.socket, starter: int, again: Again) -> NoReturn:
    """Wait until a running container is handed over; then be its shim. Ends with the starter otherwise.

    `again` serves a request that was passed on, in a process forked for it (start.py).
    """
    status = 1
    try:
        process.close_all_but([starter_sock.fileno()])
        os.setsid()
        os.umask(0o077)
        received = wire.receive(starter_sock)
        if received is not None and "again" in received[0]:
            starter_sock, starter = _fork_starter(starter_sock, starter, received, again)
            received = wire.receive(starter_sock)
        if received is not None and "start" in received[0]:
            received = arrival.follow(starter_sock, *received)
        if received is None:
            os.waitpid(starter, 0)
        elif "external" in received[0]:
            # Only those who are asked to pay for it: a shim of our own runtime stays small.
            from sampan.shim.external.shim import keep as keep_external  # allowed: a shim is never in a container

            keep_external(starter_sock, starter, received[0])
        else:
            starter_sock.close()
            Shim(*received).serve([starter])
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _fork_starter(
    sock: socket.socket, starter: int, received: tuple[dict[str, Any], list[int]], again: Again
) -> tuple[socket.socket, int]:
    """Fork a process for the request; reap those who could not serve it. Returns the socket to it and its pid."""
    message, fds = received
    sock.close()
    ours, theirs = wire.pair()
    forked = os.fork()
    if forked == 0:
        ours.close()
        again(theirs, message["again"], fds)
    theirs.close()
    container.close(fds)
    os.waitpid(starter, 0)
    os.waitpid(message["pid"], 0)
    return ours, forked


class Shim:
    """A running container, as the starter handed it over.

    The engines' connections are `control`: the one that asked for the start, and any that came later. Descriptors, in
    order: control, run directory, init's pidfd, listener, then those there are of console, log, stdin, stdout, stderr;
    then the clients.
    """

    def __init__(self, message: dict[str, Any], fds: list[int]) -> None:
        self._setup = setup = msgspec.convert(message["setup"], Setup)
        self._started = msgspec.convert(message["started"], Started)
        self._loop = Loop()
        self._control = [socket.socket(fileno=fds.pop(0))]
        self._directory = fds.pop(0)
        self._pidfd = fds.pop(0)
        self._listener = socket.socket(fileno=fds.pop(0))
        console = fds.pop(0) if setup.tty else -1
        log = LogFile(setup.log.path, setup.log.max_size, setup.log.max_files, fds.pop(0)) if setup.log else None
        stdin = fds.pop(0) if setup.open_stdin and not setup.tty else -1
        stdout, stderr = (-1, -1) if setup.tty else (fds.pop(0), fds.pop(0))
        pipes = Pipes((-1, -1, -1), stdin, stdout, stderr)
        clients = [(socket.socket(fileno=fd), options) for fd, options in zip(fds, setup.clients, strict=True)]
        self._stdio = Stdio(self._loop, pipes, console, setup.stdin_once, log, clients)
        self._execs = self._make_execs()

    def _make_execs(self) -> Execs:
        return Execs(self._loop, self._group, self._tell)

    def _group(self) -> Group:
        return Group.open(self._setup.cgroup_host, self._setup.cgroup_path)

    def serve(self, ended: list[int]) -> None:
        """Until the container has ended and its clients have everything. `ended`: children that end about now."""
        self.watch(ended)
        self._run()
        stdios = self._end()
        while any(stdio.has_clients for stdio in stdios):
            if not self._loop.run_once(_LINGER):
                break

    def _run(self) -> None:
        self._loop.run()

    def watch(self, ended: list[int]) -> None:
        for pid in ended:
            self._reap_later(pid)
        self._loop.watch(self._listener.fileno(), READ, lambda events: self._accept())
        self._watch_control(self._control[0])
        self._loop.watch(self._pidfd, READ, lambda events: self._loop.stop())

    def turn(self) -> bool:
        """Serve what is ready now. False when nothing was."""
        return self._loop.run_once(0)

    def _reap_later(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)

        def take(events: int) -> None:
            self._loop.forget(pidfd)
            os.close(pidfd)
            reap(pid)

        self._loop.watch(pidfd, READ, take)

    def _end(self) -> list[Stdio]:
        """The init has ended: take everything in, say so, clean up. Returns the stdio that clients still follow."""
        self._loop.forget(self._pidfd)
        status = reap(self._started.pid)
        end = Exit(status, now(), status - 128 if status > 128 else 0)
        self._remove_group(end)
        self._stdio.drain()
        try:
            _write_exit(self._directory, end)
        except OSError as error:  # an engine that is there hears it all the same
            complain(f"{self._setup.id}: its exit ({end.status}) could not be written down: {error}")
        stdios = self._execs.end_all()
        self._tell({"event": "exited", **msgspec.to_builtins(end)})
        self._stdio.finish_clients()
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        return [self._stdio, *stdios]

    def _remove_group(self, end: Exit) -> None:
        """Note why the kernel killed, and end what is left: without a pid namespace of its own, there may be some."""
        try:
            group = Group.at(self._setup.cgroup_host, self._setup.cgroup_path)
            memory = stats.memory_events(group.paths())
            end.oom_killed, end.memory_limit_hit = memory.oom_kills > 0, memory.limit_hits > 0
            group.remove()
        except (OSError, SampanError) as error:
            end.error = f"its cgroup could not be removed: {error}"
            complain(f"{self._setup.id}: {end.error}")

    def _tell(self, event: dict[str, Any]) -> bool:
        """Tell every engine that listens. False when none does."""
        told = [self._say(sock, event) for sock in list(self._control)]
        return any(told)

    def _say(self, sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> bool:
        try:
            wire.send(sock, message, fds or ())
            return True
        except BlockingIOError:
            complain(f"{self._setup.id}: the engine does not listen")
            self._drop(sock)
        except OSError:
            self._drop(sock)
        return False

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("iII", credentials)[1] not in (0, os.getuid()):  # CVE-2020-15257
            sock.close()
            return
        wire.widen(sock)
        self._control.append(sock)
        self._watch_control(sock)

    def _watch_control(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._loop.watch(sock.fileno(), READ, lambda events: self._on_control(sock, events))

    def _drop(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            self._loop.forget(sock.fileno())
            sock.close()
        if sock in self._control:
            self._control.remove(sock)
        if not self._control:
            self._execs.acknowledge_all()

    def _on_control(self, sock: socket.socket, events: int) -> None:
        try:
            received = wire.receive(sock)
        except BlockingIOError:
            if events & BROKEN:
                self._drop(sock)
            return
        except (OSError, InvalidArgument):
            received = None
        if received is None:
            self._drop(sock)
            return
        message, fds = received
        try:
            answer = self._do(sock, message, fds)
        except (SampanError, OSError, msgspec.ValidationError, KeyError) as error:
            answer = {"error": to_message(error)}, []
        finally:
            container.close(fds)
        if "n" in message and answer is not None:
            self._say(sock, {"re": message["n"], **answer[0]}, answer[1])

    def _do(self, sock: socket.socket, message: dict[str, Any], fds: list[int]) -> Answer | None:
        """One request of `sock`; what it keeps of `fds` it takes out of the list. None: answered later."""
        action = message.get("do")
        if action == "status":
            started = msgspec.to_builtins(self._started)
            return {"started": started, "execs": self._execs.running()}, [self._pidfd]
        if action == "exec":
            request = msgspec.convert(message["request"], ExecRequest)
            client = socket.socket(fileno=fds.pop(0)) if fds else None
            return {"pid": self._execs.start(request, self._pidfd, self._started.pid, client)}, []
        if action == "attach":
            options = msgspec.convert(message["client"], ClientOptions)
            self._stdio.attach(socket.socket(fileno=fds.pop(0)), options)
            return {}, []
        if action == "resize":
            height, width = int(message["height"]), int(message["width"])
            if message.get("exec"):
                self._execs.resize(message["exec"], height, width)
            else:
                resize(self._stdio, height, width)
            return {}, []
        if action == "ack":
            self._execs.acknowledge(message["id"])
            return {}, []
        raise InvalidArgument(f"a shim cannot do {action!r}")


def _write_exit(directory: int, end: Exit) -> None:
    """All or nothing: an engine must never read half of it."""
    name = f".{EXIT_FILE}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        data = msgspec.json.encode(end)
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    finally:
        os.close(fd)
    os.rename(name, EXIT_FILE, src_dir_fd=directory, dst_dir_fd=directory)
