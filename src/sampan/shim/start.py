"""The start of a container, in a process that becomes it.

    launcher      shim (forked ahead)        starter              container
       │ fork ─────────▶│ fork ────────────────▶│ clone3(PARENT) ───▶│ waits for a request, in its namespaces
       │                │ waits                 │ a husk: its memory  │◀── request ── engine
       │                │◀─ descriptors ────────────────────────────┤ run directory, log, pipes, socket
       │                │                       │                    │ cgroup, mounts, … (runtime/newborn.py)
       │                │◀─ "ready" ────────────────────────────────┤ execve
       │                │◀─ end of file ──────────┤ ends             │
       │                ├── "started" ──▶ engine                      the container's first process is the shim's child
       │                │ serves stdio, exec, the exit status

A shim lives as long as its container, so what it touches counts: what only a start needs happens in the other process,
whose memory is given back. The container is born as the shim's child and the starter's sibling; one memory for both
means that nothing is copied between them, and that execve frees nothing (linux/husk.py).

A request that wants other namespaces, or to be born in its v2 cgroup, needs a process that is in none yet:

                     shim                    starter              container
                        │◀─ "again" ───────────────────────────────┤ ends, its request passed on
                        │ fork ────────────────▶│ clone3(PARENT) ───▶│ (runtime/container.py)
                        │                       ├── "started" ──▶ engine
                        │◀─ descriptors ────────┤ ends

On v2 hosts the starter is no husk from the beginning, and takes the request itself.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from sampan.errors import StartFailed
from sampan.jobs import channel as wire
from sampan.jobs import forkserver
from sampan.jobs.forkserver import Channel
from sampan.linux import clone, husk, process, unix_socket, userns
from sampan.oci import runtime as oci
from sampan.runtime import container, newborn
from sampan.runtime.ahead import Ahead, Spare
from sampan.runtime.newborn import Work
from sampan.shim import shim
from sampan.shim.log import now, open_log
from sampan.shim.messages import EXIT_FILE, SOCKET, Setup, Started
from sampan.shim.stdio import Pipes
from sampan.shim.warm import warm


@dataclass
class Ready:
    """What was made ahead: `keeper` leads to the shim that will take over; `spare`: we are in the namespaces of
    newborn.USUAL, as the shim's child, with all of this.
    """

    keeper: socket.socket
    spare: Spare | None = None


_READY: list[Ready] = []  # of this process alone: filled by `prepare`, taken by its one job


def prepare(born: bool, ahead: Ahead) -> None:
    """A spare of the launcher becomes a shim that waits; what returns is the starter, or with `born` who left it."""
    ours, theirs = wire.pair()
    starter = os.fork()
    if starter != 0:
        shim.keep(theirs, starter, _serve_again)
    theirs.close()
    process.set_name("sampan-start")
    if born:
        husk.leave(newborn.USUAL | clone.PARENT)
    process.die_with_parent(signal.SIGKILL)
    spare = Spare.make(ahead) if born else None
    warm(1)
    ahead.pages.populate()
    _READY.append(Ready(ours, spare))


def run(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The launcher's job "shim": start a container and hand it over to its shim."""
    begin = time.monotonic_ns()
    os.umask(0o077)
    ready = _READY.pop()
    setup = msgspec.convert(args["setup"], Setup)
    spare = ready.spare
    if spare is not None and not (setup.usual and spare.fits(setup.own_network, setup.network)):
        spare.ahead.own_network = setup.own_network
        return _pass_on(ready, {"job": "shim", "args": args}, channel, fds)
    directory = make_directory(setup.directory)
    try:
        if spare is not None:
            become(ready, setup, args, channel, directory, fds, begin)
        start = _Start(setup, args["work"], directory)
        running = start.run({"network": fds.pop(0)} if setup.network else {})
    except BaseException:
        remove_directory(setup.directory, directory)
        raise
    micros = (time.monotonic_ns() - begin) // 1000
    started = msgspec.to_builtins(Started(running.pid, now(), micros, running.report, running.warnings))
    wire.send(channel.sock, {"started": started}, [running.pidfd])
    handed = {"setup": args["setup"], "started": started}
    wire.send(ready.keeper, handed, [channel.sock.fileno(), directory, *start.near(running), *fds])
    channel.sock.close()
    return {}


def run_external(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The launcher's job "external": the same with another OCI runtime."""
    ready = _READY.pop()
    if ready.spare is not None:
        return _pass_on(ready, {"job": "external", "args": args}, channel, fds)
    from sampan.shim.external import start as external  # allowed: a starter is never in a container

    os.umask(0o077)
    return external.run(channel, args, fds, ready.keeper)


JOBS: dict[str, forkserver.Job] = {"shim": run, "external": run_external}


def _pass_on(ready: Ready, request: dict[str, Any], channel: Channel, fds: list[int]) -> dict[str, Any]:
    """The shim's to have served: by a starter of its own, in no namespaces yet."""
    wire.send(ready.keeper, {"again": request, "pid": _host_pid()}, [channel.sock.fileno(), *fds])
    channel.sock.close()
    return {}


def _serve_again(keeper: socket.socket, request: dict[str, Any], fds: list[int]) -> NoReturn:
    """A starter, forked by its shim."""
    process.set_name("sampan-start")
    process.die_with_parent(signal.SIGKILL)
    _READY.append(Ready(keeper))
    forkserver.be_job(JOBS, request, fds)


def _host_pid() -> int:
    """os.getpid() says 1 in a pid namespace of one's own; /proc is still the host's."""
    return int(os.readlink("/proc/self"))


def become(
    ready: Ready, setup: Setup, args: dict[str, Any], channel: Channel, directory: int, fds: list[int], begin: int
) -> NoReturn:
    """Be the container's first process. Raises only as long as nobody but us knows of the container."""
    try:
        log = open_log(setup.log.path) if setup.log is not None else -1
        pipes = Pipes.make(setup.tty, setup.open_stdin)
        near = [os.pidfd_open(os.getpid()), listen(directory).detach(), log, pipes.stdin, pipes.stdout, pipes.stderr]
    except OSError as error:
        raise _failed(error) from error
    joined = {"network": fds.pop(0)} if setup.network else {}
    message = {"start": args["setup"], "pid": _host_pid(), "begin": begin}
    wire.send(ready.keeper, message, [channel.sock.fileno(), directory, *(fd for fd in near if fd >= 0), *fds])
    newborn.become(ready.keeper, args["work"], joined, pipes.child, ready.spare)


def _failed(error: OSError) -> StartFailed:
    where = f"{error.filename}: " if error.filename else ""
    return StartFailed(f"failed to start the container: {where}{error.strerror or error}")


class _Start:
    """A start in a process cloned for it."""

    def __init__(self, setup: Setup, work: str, directory: int) -> None:
        self._setup = setup
        self._work = work
        self._directory = directory
        self._log = -1

    def run(self, joined: dict[str, int]) -> container.Running:
        try:
            if self._setup.log is not None:
                self._log = open_log(self._setup.log.path)
            self._pipes = Pipes.make(self._setup.tty, self._setup.open_stdin)
            self._listener = listen(self._directory)
            work = msgspec.json.decode(self._work, type=Work)
            if _wants_user_namespace(work.spec):
                assert work.spec.linux is not None
                joined["user"] = userns.create(
                    userns.of_spec(work.spec.linux.uid_mappings), userns.of_spec(work.spec.linux.gid_mappings)
                )
            return container.start(work, joined, self._pipes.child, born_as=clone.PARENT)
        except OSError as error:
            raise _failed(error) from error

    def near(self, running: container.Running) -> list[int]:
        """The descriptors for the shim, in the order it expects; what there is not is left out (see shim.Shim)."""
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


def remove_directory(path: str, fd: int) -> None:
    """Remove a container's run directory, which `fd` is a descriptor of; closes it."""
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
