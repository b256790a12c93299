"""One container's shim: its init's parent from the clone to the exit status."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import Any

import msgspec

from sampan.errors import InvalidArgument, SampanError, StartFailed, to_message
from sampan.jobs import channel as wire
from sampan.jobs.forkserver import Channel
from sampan.linux import process, userns
from sampan.linux.cgroup import stats
from sampan.oci import runtime as oci
from sampan.runtime import container, newborn
from sampan.runtime.newborn import Newborn, Work
from sampan.shim.execs import Execs, reap, resize
from sampan.shim.log import LogFile, now
from sampan.shim.loop import BROKEN, READ, Loop
from sampan.shim.messages import (
    EXIT_FILE,
    SOCKET,
    ClientOptions,
    ExecRequest,
    Exit,
    Setup,
    Started,
)
from sampan.shim.stdio import Stdio
from sampan.shim.warm import warm

_LINGER = 10.0  # seconds a client may make no progress taking the last output


_WAITING: list[Newborn] = []  # of this process alone: filled by `prepare` in a spare, taken by its one job


def prepare() -> None:
    """A spare of the launcher gets ready: nobody may look into it, and its container's first process waits."""
    process.set_name("sampan-shim")
    process.prctl(process.PR_SET_DUMPABLE, 0)
    _WAITING.append(newborn.create(newborn.USUAL, warm=warm))


def run(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The launcher's job "shim". Ends when the container has ended and its clients have everything."""
    os.setsid()
    os.umask(0o077)
    return Shim(channel.sock, msgspec.convert(args["setup"], Setup), args["work"], _WAITING).run(fds)


class Shim:
    """`work` is the JSON of the container's Work, decoded only when it is needed. The engines' connections are
    `control`: the one that asked for the start, and any that came later.
    """

    def __init__(self, sock: socket.socket, setup: Setup, work: str, waiting: list[Newborn]) -> None:
        self._setup = setup
        self._work = work
        self._waiting = waiting
        self._loop = Loop()
        self._control = [sock]
        self._listener: socket.socket | None = None
        self._directory = -1

    def run(self, fds: list[int]) -> dict[str, Any]:
        begin = time.perf_counter_ns()
        setup = self._setup
        self._directory = _make_directory(setup.directory)
        log = LogFile(setup.log.path, setup.log.max_size, setup.log.max_files) if setup.log else None
        self._stdio = Stdio(self._loop, setup.tty, setup.open_stdin, setup.stdin_once, log)
        try:
            self._running = self._start(fds)
        except BaseException:
            self._stdio.abandon()
            _remove_directory(setup.directory, self._directory)
            raise
        running = self._running
        micros = (time.perf_counter_ns() - begin) // 1000
        self._execs = Execs(self._loop, lambda: container.open_group(self._decoded()), self._tell)
        self._started = Started(running.pid, now(), micros, running.report, running.warnings)
        self._say(self._control[0], {"started": msgspec.to_builtins(self._started)}, [running.pidfd])
        self._stdio.started(running.console)
        self._serve()
        return {}

    def _decoded(self) -> Work:
        return msgspec.json.decode(self._work, type=Work)

    def _start(self, fds: list[int]) -> container.Running:
        joined = {"network": fds.pop(0)} if self._setup.network else {}
        for fd, options in zip(fds, self._setup.clients, strict=True):
            self._stdio.attach(socket.socket(fileno=fd), options)
        self._listener = _listen(self._directory)
        try:
            if self._setup.usual and self._waiting:
                return container.start_waiting(self._waiting.pop(), self._work, joined, self._stdio.child)
            return self._start_unusual(joined)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise StartFailed(f"failed to start the container: {where}{error.strerror or error}") from error
        finally:
            container.close(joined.values())

    def _start_unusual(self, joined: dict[str, int]) -> container.Running:
        for child in self._waiting:
            child.end()
        work = self._decoded()
        if _wants_user_namespace(work.spec):
            assert work.spec.linux is not None
            joined["user"] = userns.create(*container.id_maps(work.spec.linux))
        return container.start(work, joined, self._stdio.child)

    def _serve(self) -> None:
        assert self._listener is not None
        self._loop.watch(self._listener.fileno(), READ, lambda events: self._accept())
        self._watch_control(self._control[0])
        self._loop.watch(self._running.pidfd, READ, lambda events: self._loop.stop())
        self._loop.run()
        stdios = self._end()
        while any(stdio.has_clients for stdio in stdios):
            if not self._loop.run_once(_LINGER):
                break

    def _end(self) -> list[Stdio]:
        """The init has ended: take everything in, say so, clean up. Returns the stdio that clients still follow."""
        self._loop.forget(self._running.pidfd)
        status = reap(self._running.pid)
        self._stdio.drain()
        group = container.open_group(self._decoded())
        memory = stats.memory_events(group.paths())
        killed_by = status - 128 if status > 128 else 0
        end = Exit(status, now(), killed_by, memory.oom_kills > 0, memory.limit_hits > 0)
        try:
            group.remove()
        except (OSError, SampanError) as error:
            end.error = f"its cgroup could not be removed: {error}"
            print(f"sampan-shim: {self._setup.id}: {end.error}", file=sys.stderr)  # noqa: T201
        _write_exit(self._directory, end)
        stdios = self._execs.end_all()
        self._tell({"event": "exited", **msgspec.to_builtins(end)})
        self._stdio.finish_clients()
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()
        return [self._stdio, *stdios]

    def _tell(self, event: dict[str, Any]) -> bool:
        """Tell every engine that listens. False when none does."""
        told = [self._say(sock, event) for sock in list(self._control)]
        return any(told)

    def _say(self, sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> bool:
        try:
            wire.send(sock, message, fds or ())
            return True
        except BlockingIOError:
            print(f"sampan-shim: {self._setup.id}: the engine does not listen", file=sys.stderr)  # noqa: T201
            self._drop(sock)
        except OSError:
            self._drop(sock)
        return False

    def _accept(self) -> None:
        assert self._listener is not None
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
            answer, answer_fds = self._do(message, fds)
        except (SampanError, OSError, msgspec.ValidationError, KeyError) as error:
            answer, answer_fds = {"error": to_message(error)}, []
        finally:
            container.close(fds)
        if "n" in message:
            self._say(sock, {"re": message["n"], **answer}, answer_fds)

    def _do(self, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        """One request; what it keeps of `fds` it takes out of the list."""
        action = message.get("do")
        if action == "status":
            started = msgspec.to_builtins(self._started)
            return {"started": started, "execs": self._execs.running()}, [self._running.pidfd]
        if action == "exec":
            request = msgspec.convert(message["request"], ExecRequest)
            client = socket.socket(fileno=fds.pop(0)) if fds else None
            return {"pid": self._execs.start(request, self._running.pidfd, self._running.pid, client)}, []
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


def _wants_user_namespace(spec: oci.Spec) -> bool:
    kinds = spec.linux.namespaces if spec.linux else []
    return any(namespace.type == "user" and not namespace.path for namespace in kinds)


def _make_directory(path: str) -> int:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # made by the engine, or left by an earlier start of this container
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_directory(path: str, fd: int) -> None:
    for name in os.listdir(fd):
        os.unlink(name, dir_fd=fd)
    os.close(fd)
    os.rmdir(path)


def _listen(directory: int) -> socket.socket:
    """A socket that only the engine's user can reach (CVE-2020-15257: never an abstract one)."""
    for name in (SOCKET, EXIT_FILE):
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    sock.bind(f"/proc/self/fd/{directory}/{SOCKET}")
    sock.listen(8)
    return sock


def _write_exit(directory: int, end: Exit) -> None:
    """All or nothing: an engine must never read half of it."""
    name = f".{EXIT_FILE}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, msgspec.json.encode(end))
    finally:
        os.close(fd)
    os.rename(name, EXIT_FILE, src_dir_fd=directory, dst_dir_fd=directory)
