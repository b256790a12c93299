"""The start of a container, in a process that ends when it is done.

    launcher      shim (forked ahead)        starter              newborn
       │ fork ─────────▶│ fork ────────────────▶│ clone3(PARENT) ───▶│ waits for its work
       │                │ waits                 │ waits for a request from the engine
       │                │                       │◀── request ── engine
       │                │                       ├── work, descriptors ──▶│ cgroup, mounts, … execve
       │                │                       ├── "started" ──▶ engine
       │                │◀─ descriptors ────────┤ ends
       │                │ the container's first process is its child; it serves stdio, exec, the exit status

A shim lives as long as its container, so what it touches counts: all that a start needs, and a shim does not, happens
in the starter, whose memory is given back. It clones the newborn as a sibling, so that the shim is its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from sampan.errors import StartFailed
from sampan.jobs import channel as wire
from sampan.jobs.forkserver import Channel
from sampan.linux import clone, process, unix_socket, userns
from sampan.oci import runtime as oci
from sampan.runtime import container, newborn
from sampan.runtime.newborn import Newborn, Work
from sampan.shim import shim
from sampan.shim.log import now, open_log
from sampan.shim.messages import EXIT_FILE, SOCKET, Setup, Started
from sampan.shim.stdio import Pipes
from sampan.shim.warm import warm


@dataclass
class Ready:
    """What a starter was given ahead: the shim that will take over, and a newborn."""

    keeper: socket.socket
    child: Newborn


_READY: list[Ready] = []  # of this process alone: filled by `prepare`, taken by its one job


def prepare() -> None:
    """A spare of the launcher becomes a shim that waits; its child, which returns, is the starter."""
    ours, theirs = wire.pair()
    starter = os.fork()
    if starter != 0:
        shim.keep(theirs, starter)
    theirs.close()
    process.set_name("sampan-start")
    process.die_with_parent(signal.SIGKILL)
    _READY.append(Ready(ours, newborn.create(newborn.USUAL | clone.PARENT, warm=warm)))


def run(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The launcher's job "shim": start a container and hand it over to its shim."""
    begin = time.perf_counter_ns()
    os.umask(0o077)
    ready = _READY.pop()
    setup = msgspec.convert(args["setup"], Setup)
    directory = make_directory(setup.directory)
    try:
        start = _Start(setup, args["work"], ready, directory)
        running = start.run({"network": fds.pop(0)} if setup.network else {})
    except BaseException:
        _remove_directory(setup.directory, directory)
        raise
    micros = (time.perf_counter_ns() - begin) // 1000
    started = msgspec.to_builtins(Started(running.pid, now(), micros, running.report, running.warnings))
    wire.send(channel.sock, {"started": started}, [running.pidfd])
    handed = {"setup": args["setup"], "started": started, "reap": start.ended}
    wire.send(ready.keeper, handed, [channel.sock.fileno(), directory, *start.near(running), *fds])
    channel.sock.close()
    return {}


def run_external(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The launcher's job "external": the same with another OCI runtime."""
    from sampan.shim.external import start as external  # allowed: a starter is never in a container

    os.umask(0o077)
    return external.run(channel, args, fds, _READY.pop())


class _Start:
    """`ended` are siblings whose exit the shim must take."""

    def __init__(self, setup: Setup, work: str, ready: Ready, directory: int) -> None:
        self._setup = setup
        self._work = work
        self._ready = ready
        self._directory = directory
        self._log = -1
        self.ended: list[int] = []

    def run(self, joined: dict[str, int]) -> container.Running:
        if self._setup.log is not None:
            self._log = open_log(self._setup.log.path)
        self._pipes = Pipes.make(self._setup.tty, self._setup.open_stdin)
        self._listener = listen(self._directory)
        try:
            if self._setup.usual:
                return container.start_waiting(self._ready.child, self._work, joined, self._pipes.child)
            return self._start_unusual(joined)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise StartFailed(f"failed to start the container: {where}{error.strerror or error}") from error

    def _start_unusual(self, joined: dict[str, int]) -> container.Running:
        self._ready.child.end()
        self.ended.append(self._ready.child.pid)
        work = msgspec.json.decode(self._work, type=Work)
        if _wants_user_namespace(work.spec):
            assert work.spec.linux is not None
            joined["user"] = userns.create(
                userns.of_spec(work.spec.linux.uid_mappings), userns.of_spec(work.spec.linux.gid_mappings)
            )
        return container.start(work, joined, self._pipes.child, born_as=clone.PARENT)

    def near(self, running: container.Running) -> list[int]:
        """The descriptors for the shim, in the order it expects; what there is not is left out (see shim.Handed)."""
        pipes = self._pipes
        found = [running.pidfd, self._listener.fileno(), running.console, self._log]
        found += [pipes.stdin, pipes.stdout, pipes.stderr]
        return [fd for fd in found if fd >= 0]


def _wants_user_namespace(spec: oci.Spec) -> bool:
    kinds = spec.linux.namespaces if spec.linux else []
    return any(namespace.type == "user" and not namespace.path for namespace in kinds)


def make_directory(path: str) -> int:
    """Make a container's run directory if it is missing; a descriptor of it, the caller's."""
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


def listen(directory: int) -> socket.socket:
    """A socket that only the engine's user can reach (CVE-2020-15257: never an abstract one)."""
    for name in (SOCKET, EXIT_FILE):
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    unix_socket.bind_at(sock, directory, SOCKET)
    sock.listen(8)
    return sock


