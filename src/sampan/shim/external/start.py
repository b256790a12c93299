"""The starter's part of a container that another OCI runtime runs.

    starter                              shim (RUN's keeper from the first message on)
      ├── {"external": Setup} ──────────▶│ becomes the subreaper: what the runtime forks will be its child
      │◀──────────────────── {"ready"} ──┤
      │ private mount namespace, bundle  │
      │ RUNTIME create; console; pid     │
      │ RUNTIME start                    │
      ├── {"setup", "started", …} ──────▶│ serves until the container ends          (see shim/start.py)
      │   or {"failed"} ────────────────▶│ deletes the container, its processes, cgroup, RUN
      │◀──────────────────── {"undone"} ─┤ … as it does when the starter is killed

The engine hears of a failure when nothing is left of it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgspec

from sampan.errors import Internal, NotFound, SampanError, StartFailed
from sampan.jobs import channel as wire
from sampan.jobs.forkserver import Channel
from sampan.linux import process
from sampan.linux.cgroup import Group
from sampan.runtime.newborn import Work
from sampan.runtime.operation import Recorder, Report
from sampan.shim.external import bundle, failure, undo
from sampan.shim.external.command import Command
from sampan.shim.external.console import ConsoleSocket
from sampan.shim.log import now, open_log
from sampan.shim.messages import Setup, Started
from sampan.shim.start import listen, make_directory
from sampan.shim.stdio import Pipes

PID_FILE = "init.pid"
CONSOLE = "console.sock"


def run(channel: Channel, args: dict[str, Any], fds: list[int], keeper: socket.socket) -> dict[str, Any]:
    """The launcher's job "external": start a container with the runtime that `setup` names, hand it to its shim."""
    begin = time.perf_counter_ns()
    setup = msgspec.convert(args["setup"], Setup)
    directory = make_directory(setup.directory)
    undo.empty(directory)
    os.close(directory)
    _say(keeper, {"external": args["setup"]})
    try:
        start = _Start(setup, msgspec.json.decode(args["work"], type=Work), os.getppid())
        try:
            start.run({"network": fds.pop(0)} if setup.network else {})
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise StartFailed(f"failed to start the container: {where}{error.strerror or error}") from error
        micros = (time.perf_counter_ns() - begin) // 1000
        started = msgspec.to_builtins(Started(start.pid, now(), micros, msgspec.json.encode(start.report).decode()))
        wire.send(channel.sock, {"started": started}, [start.pidfd])
    except BaseException:
        _say(keeper, {"failed": True})
        raise
    handed = {"setup": args["setup"], "started": started}
    wire.send(keeper, handed, [channel.sock.fileno(), start.directory, *start.near(), *fds, start.namespace])
    channel.sock.close()
    return {}


def _say(keeper: socket.socket, message: dict[str, Any]) -> None:
    """Tell the shim, and wait until it has done what that asks for."""
    wire.send(keeper, message)
    if wire.receive(keeper) is None:
        raise Internal("the container's shim was killed while it started")


class _Start:
    """`pid`, `pidfd`, `console`, `report` are right after `run`; `namespace` is the bundle's mount namespace."""

    def __init__(self, setup: Setup, work: Work, shim: int) -> None:
        assert setup.runtime is not None
        self._setup = setup
        self._runtime = setup.runtime
        self._work = work
        self._shim = shim
        self._recorder = Recorder()
        self._log = -1
        self.pid = self.pidfd = self.console = -1
        self.report = Report({})

    def run(self, joined: dict[str, int]) -> None:
        """Raises StartFailed, InvalidArgument, OSError; what it leaves is for the shim to undo."""
        setup = self._setup
        if setup.log is not None:
            self._log = open_log(setup.log.path)
        self.directory = bundle.enter(setup.directory)
        self.namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        bundle.make(self._work, self.directory, joined)
        self._recorder.done("Bundle", "mount the root in a private mount namespace, write config.json")
        self._pipes = Pipes.make(setup.tty, setup.open_stdin)
        self._listener = listen(self.directory)
        self._create()
        self._begin()
        self.report.cgroups = self._cgroups()
        self.report.steps = self._recorder.steps

    def _create(self) -> None:
        words = ["create", "--bundle", os.readlink(f"/proc/self/fd/{self.directory}"), "--pid-file", PID_FILE]
        terminal = ConsoleSocket(self.directory, CONSOLE) if self._setup.tty else None
        command: Command | None = None
        stdio = None if terminal else self._pipes.child
        try:
            if terminal is not None:
                words += ["--console-socket", CONSOLE]
            command = Command(self._runtime, self.directory, [*words, self._setup.id], stdio=stdio)
            if terminal is not None:
                command.wait(terminal.sock.fileno())
                if terminal.called:
                    self.console = terminal.receive(self._runtime.patience)
            command.wait()
            said = command.finish(self._pipes.stderr)
        except (SampanError, TimeoutError) as error:
            if command is not None and command.status is None:
                command.kill()
                command.finish()
            raise StartFailed(f"failed to create shim task: OCI runtime create failed: {error}") from error
        finally:
            if terminal is not None:
                terminal.close()
        self._pipes.close_child()
        if said:
            raise self._failed(said, "failed to create shim task: OCI runtime create failed: ")
        self._recorder.done("Create", f"{self._runtime.path} create")
        self._find()

    def _find(self) -> None:
        """The container's first process: by the pid file, and a child of the shim, who must be told of its end."""
        self.pid, self.pidfd = find_child(self.directory, PID_FILE, self._shim)
        if self._setup.tty and self.console < 0:
            raise StartFailed("failed to create shim task: OCI runtime create failed: the runtime sent no terminal")

    def _begin(self) -> None:
        command = Command(self._runtime, self.directory, ["start", self._setup.id])
        command.wait()
        said = command.finish()
        if said:
            raise self._failed(said, "failed to start shim task: OCI runtime start failed: ")
        self._recorder.done("Start", f"{self._runtime.path} start")

    def _failed(self, said: str, doing: str) -> StartFailed:
        process = self._work.spec.process
        return failure.of_start(said, process.args[0] if process and process.args else "", doing)

    def _cgroups(self) -> dict[str, str]:
        try:
            return Group.open(self._setup.cgroup_host, self._setup.cgroup_path).paths()
        except NotFound:  # it has ended already, or the runtime has its own idea of where it is
            return {}

    def near(self) -> list[int]:
        """The descriptors for the shim, in the order it expects (see shim.Shim)."""
        pipes = self._pipes
        found = [self.pidfd, self._listener.fileno(), self.console, self._log]
        return [fd for fd in (*found, pipes.stdin, pipes.stdout, pipes.stderr) if fd >= 0]


def find_child(directory: int, pid_file: str, parent: int) -> tuple[int, int]:
    """(pid, pidfd) of the process that the runtime names in RUN/`pid_file`. Raises StartFailed if it is not `parent`'s
    child: nobody could tell how it ends.
    """
    try:
        fd = os.open(pid_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        with open(fd, "rb") as file:
            pid = int(file.read(32))
        os.unlink(pid_file, dir_fd=directory)
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError) as error:
        raise StartFailed(f"the OCI runtime did not say which process it made: {error}") from error
    if not _is_child(pid, parent):
        os.close(pidfd)
        raise StartFailed(f"the OCI runtime's process {pid} is not its own child: its end could not be heard of")
    return pid, pidfd


def _is_child(pid: int, parent: int) -> bool:
    try:
        return process.stat(pid).parent == parent
    except (FileNotFoundError, ProcessLookupError):
        return False
