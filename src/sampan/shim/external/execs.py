"""The processes that `RUNTIME exec --detach` puts into the container: they end up as the shim's children."""

from __future__ import annotations

import os
import select
import socket

import msgspec

from sampan.errors import Conflict, StartFailed
from sampan.runtime import users
from sampan.runtime.enter import Joined
from sampan.shim.external import bundle, document, failure
from sampan.shim.external.command import Command
from sampan.shim.external.console import ConsoleSocket
from sampan.shim.external.start import find_child
from sampan.shim.messages import ExecRequest, Runtime
from sampan.shim.stdio import Pipes

_CONSOLE_PATIENCE = 5.0  # seconds: it has connected, and sends one message


def describe(request: ExecRequest, init_pid: int, init_pidfd: int) -> bytes:
    """The process as `--process` wants it, its user looked up in the container's own files.

    Raises InvalidArgument for a user that is not there, Conflict when the container has ended.
    """
    root = _root_of(init_pid, init_pidfd)
    try:
        identity = users.resolve(request.process.user, root)
    finally:
        os.close(root)
    return msgspec.json.encode(document.process(request.process, identity))


def _root_of(pid: int, pidfd: int) -> int:
    try:
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Conflict("the container is ending") from error
    if has_ended(pidfd):  # before the open: the pid may be somebody else's by now
        os.close(fd)
        raise Conflict("the container is ending")
    return fd


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class Beginning:
    """An exec whose runtime command runs: its files in RUN carry a number of their own."""

    def __init__(
        self, request: ExecRequest, process: bytes, runtime: Runtime, directory: int, number: int, container: str
    ) -> None:
        """Begin it: `process` from `describe`, `directory` is RUN. Raises SampanError, OSError: nothing stays."""
        self.request = request
        self.sock: socket.socket | None = None  # the client's, to be set
        self.directory = directory
        self.console = -1
        self.pid_file, self._process = f"exec-{number}.pid", f"exec-{number}.json"
        self.terminal: ConsoleSocket | None = None
        self.pipes = Pipes.make(request.process.terminal, request.open_stdin)
        words = ["exec", "--process", self._process, "--detach", "--pid-file", self.pid_file]
        try:
            bundle.write(directory, self._process, process)
            if request.process.terminal:
                self.terminal = ConsoleSocket(directory, f"exec-{number}.sock")
                words += ["--console-socket", self.terminal.name]
            stdio = None if self.terminal else self.pipes.child
            self.command = Command(runtime, directory, [*words, container], f"-{number}", stdio)
        except BaseException:
            self.give_up()
            raise

    def take_console(self) -> None:
        """Take the terminal if the runtime has connected. Raises Internal, TimeoutError."""
        if self.terminal is not None and self.console < 0 and self.terminal.called:
            self.console = self.terminal.receive(_CONSOLE_PATIENCE)

    def finish(self, shim: int) -> Joined:
        """The command has ended: the process that runs now. Raises StartFailed; `give_up` is the caller's."""
        said = self.command.finish(self.pipes.stderr)
        if said:
            raise failure.of_start(said, self.request.process.args[0], "")
        self.take_console()
        pid, pidfd = find_child(self.directory, self.pid_file, shim)
        if self.terminal is not None and self.console < 0:
            os.close(pidfd)
            raise StartFailed("the OCI runtime sent no terminal")
        self.pipes.close_child()
        self.clear()
        return Joined(pid, pidfd, self.console)

    def give_up(self) -> None:
        """It did not come to run: close everything, the client's socket too."""
        self.pipes.close()
        if self.console >= 0:
            os.close(self.console)
        if self.sock is not None:
            self.sock.close()
        self.clear()

    def clear(self) -> None:
        """Remove its files."""
        if self.terminal is not None:
            self.terminal.close()
        for name in (self._process, self.pid_file):
            try:
                os.unlink(name, dir_fd=self.directory)
            except FileNotFoundError:
                pass
