"""The shim of a container that another OCI runtime runs.

What the runtime forks becomes our child (PR_SET_CHILD_SUBREAPER), so the ends of the container's first process and of
every exec are heard as always; stdio is served as always. Commands of the runtime run beside, so none blocks the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sampan.errors import Conflict, NotFound, SampanError, Unavailable, to_message
from sampan.jobs import channel as wire
from sampan.linux import clone, process
from sampan.linux.cgroup import stats
from sampan.oci import runtime as oci
from sampan.shim.external import bundle, document, undo
from sampan.shim.external.command import Command
from sampan.shim.external.execs import Beginning, describe, has_ended
from sampan.shim.loop import READ
from sampan.shim.messages import EXIT_FILE, SOCKET, ExecRequest, Exit, Setup
from sampan.shim.shim import Answer, Shim

_ORDERS = ("pause", "resume", "update")


def keep(starter_sock: socket.socket, starter: int, message: dict[str, Any]) -> None:
    """`message` is the starter's first. Be the container's shim, or clean up after a start that failed."""
    setup = msgspec.convert(message["external"], Setup)
    directory = bundle.open_run(setup.directory)
    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    wire.send(starter_sock, {"ready": True})
    received = wire.receive(starter_sock)
    if received is not None and "failed" not in received[0]:
        os.close(directory)
        starter_sock.close()
        ExternalShim(*received).serve([starter])
        return
    if received is None:
        os.waitpid(starter, 0)  # killed: what it had begun becomes our child by its end, not before
    undo.start(setup, directory, starter)
    if received is not None:
        wire.send(starter_sock, {"undone": True})
        os.waitpid(starter, 0)


class ExternalShim(Shim):
    """`Shim`, with the runtime's commands where that one acts itself. The last descriptor is the mount namespace."""

    def __init__(self, message: dict[str, Any], fds: list[int]) -> None:
        self._outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        namespace = fds.pop()
        clone.setns(namespace, clone.NEWNS)
        os.close(namespace)
        super().__init__(message, fds)
        assert self._setup.runtime is not None
        self._runtime = self._setup.runtime
        self._ended: list[int] = []
        self._commands: dict[Command, Callable[[], None]] = {}
        self._count = 0

    def watch(self, ended: list[int]) -> None:
        self._ended = ended
        super().watch([])
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._loop.watch(woken, READ, lambda events: self._on_child(woken))
        self._reap_strangers()

    def _run(self) -> None:
        self._loop.run(self._patience)

    def _patience(self) -> float:
        """Seconds until the first command's time is over; those whose time is over are killed."""
        now = time.monotonic()
        for command in self._commands:
            if 0 < command.deadline <= now:
                command.kill()
        return min((command.deadline - now for command in self._commands if command.deadline), default=-1)

    # -- children

    def _on_child(self, woken: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        self._reap_strangers()

    def _reap_strangers(self) -> None:
        """Take the exits of those whose parent was the runtime or a process in the container, and who are nobody's.

        Not while a command runs: it is about to say whose some of them are.
        """
        if self._commands:
            return
        for pid in process.children() - {self._started.pid, *self._execs.running().values()}:
            os.waitpid(pid, os.WNOHANG)

    # -- commands

    def _do(self, sock: socket.socket, message: dict[str, Any], fds: list[int]) -> Answer | None:
        action = message.get("do")
        if action == "exec":
            self._begin_exec(sock, message, fds)
        elif action in _ORDERS:
            self._order(sock, message, str(action))
        else:
            return super()._do(sock, message, fds)
        return None

    def _watch_command(self, command: Command, then: Callable[[], None]) -> None:
        """Call `then` once the command has ended; it takes the end (`finish`)."""
        self._commands[command] = then
        self._loop.watch(command.pidfd, READ, lambda events: self._command_ended(command))

    def _command_ended(self, command: Command) -> None:
        self._loop.forget(command.pidfd)
        then = self._commands[command]
        then()
        del self._commands[command]
        self._reap_strangers()

    def _answer(self, sock: socket.socket, number: int, act: Callable[[], dict[str, Any]]) -> None:
        """Answer a request that took a while with what `act` returns, or raises."""
        try:
            answer = act()
        except (SampanError, OSError) as error:
            answer = {"error": to_message(error)}
        if sock.fileno() >= 0:
            self._say(sock, {"re": number, **answer})

    def _order(self, sock: socket.socket, message: dict[str, Any], name: str) -> None:
        self._count += 1
        tag, words, file = f"-{self._count}", [name, self._setup.id], ""
        if name == "update":
            file = f"update{tag}.json"
            limits = document.resources(msgspec.convert(message["resources"], oci.Resources))
            bundle.write(self._directory, file, msgspec.json.encode(limits))
            words[1:1] = ["--resources", file]
        command = Command(self._runtime, self._directory, words, tag)

        def done() -> dict[str, Any]:
            if file:
                os.unlink(file, dir_fd=self._directory)
            said = command.finish()
            if said:
                raise Unavailable(f"OCI runtime {name} failed: {said}")
            return {}

        self._watch_command(command, lambda: self._answer(sock, message["n"], done))

    def _begin_exec(self, sock: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        request = msgspec.convert(message["request"], ExecRequest)
        text = describe(request, self._started.pid, self._pidfd)
        self._count += 1
        begun = Beginning(request, text, self._runtime, self._directory, self._count, self._setup.id)
        begun.sock = socket.socket(fileno=fds.pop(0)) if fds else None
        if begun.terminal is not None:
            self._loop.watch(begun.terminal.sock.fileno(), READ, lambda events: self._on_console(begun))
        self._watch_command(begun.command, lambda: self._answer(sock, message["n"], lambda: self._exec_begun(begun)))

    def _on_console(self, begun: Beginning) -> None:
        assert begun.terminal is not None
        self._loop.forget(begun.terminal.sock.fileno())
        try:
            begun.take_console()
        except (SampanError, OSError):
            begun.command.kill()  # its end brings the error

    def _exec_begun(self, begun: Beginning) -> dict[str, Any]:
        if begun.terminal is not None:
            self._loop.forget(begun.terminal.sock.fileno())
        try:
            joined = begun.finish(os.getpid())
        except (SampanError, OSError) as error:
            begun.give_up()
            if has_ended(self._pidfd):
                raise Conflict("the container is ending") from error
            raise
        self._execs.follow(begun.request, joined, begun.pipes, begun.sock)
        return {"pid": joined.pid}

    # -- the end

    def _remove_group(self, end: Exit) -> None:
        """The first process has ended: everything of the runtime's goes, and the mount namespace with its mounts."""
        for command in list(self._commands):
            command.kill()
            self._command_ended(command)
        try:
            memory = stats.memory_events(self._group().paths())
            end.oom_killed, end.memory_limit_hit = memory.oom_kills > 0, memory.limit_hits > 0
        except (NotFound, OSError):
            pass  # the runtime has a group of its own making, or none
        undo.delete(self._setup, self._directory)
        end.error = undo.group(self._setup)
        for pid in self._ended:  # the starter is in the mount namespace too
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        clone.setns(self._outside, clone.NEWNS)
        try:
            undo.empty(self._directory, but=(SOCKET, EXIT_FILE))
        except OSError as error:  # the engine removes the directory, and says so
            end.error = end.error or f"its bundle could not be removed: {error}"
