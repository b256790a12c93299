"""One run of a runtime's program: `RUNTIME --root … --log … COMMAND …`, in RUN, with a log of its own.

The program gets three descriptors, a clean environment and default signals. It ends with the process that runs it
(PDEATHSIG), and after the runtime's patience: a runtime that hangs keeps nothing waiting for ever.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import NoReturn

from sampan.errors import Internal
from sampan.linux import process
from sampan.shim.external import failure
from sampan.shim.messages import Runtime

STATE = "runtime"
"""RUN/runtime is the runtime's --root."""

Stdio = tuple[int, int, int]

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_SPOKEN = 64 << 10


class Command:
    """A command that runs, or has ended and was not taken yet (`finish`)."""

    def __init__(
        self, runtime: Runtime, directory: int, words: list[str], tag: str = "", stdio: Stdio | None = None
    ) -> None:
        """Begin it. `directory` is RUN, and stays the caller's; `tag` tells its files from another's of that name.

        `stdio` are its 0, 1, 2 (create, exec: the container's); without them /dev/null and a file that `finish` reads.
        Raises Internal when the program cannot be run at all.
        """
        self.name = words[0]
        self.status: int | None = None
        self.deadline = time.monotonic() + runtime.patience
        self._runtime = runtime
        self._directory = directory
        self._log_name = f"{words[0]}{tag}.log"
        args = [runtime.path, "--root", STATE, "--log", self._log_name, "--log-format", "json", *words]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._log = self._spoken = -1
        try:
            self._log = os.open(self._log_name, _NEW, 0o600, dir_fd=directory)
            if stdio is None:
                self._spoken = os.open(f"{self._log_name}.err", _NEW, 0o600, dir_fd=directory)
                stdio = (null, null, self._spoken)
            self.pid = _spawn(args, directory, stdio)
            self.pidfd = os.pidfd_open(self.pid)
        except BaseException:
            self._forget()
            raise
        finally:
            os.close(null)

    def wait(self, other: int = -1) -> None:
        """Wait for its end, or until `other` is readable. Kills it when its time is over."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if other >= 0:
            poll.register(other, select.POLLIN)
        if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            self.kill()

    def kill(self) -> None:
        """End it, and what it forked; `finish` says that its time was over."""
        self.deadline = 0.0
        os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the number is nobody else's

    def finish(self, stderr: int = -1) -> str:
        """Take its end, once: "" for a success, else why it failed. `stderr`: where one reads what it printed there."""
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        said = failure.words(self._log, self._printed(stderr)) if self.status else ""
        late = not self.deadline
        os.close(self.pidfd)
        self._forget()
        if self.status == 0:
            return ""
        program = os.path.basename(self._runtime.path)
        if late:
            return f"{program} {self.name} did not end within {self._runtime.patience:.0f} s"
        how = f"exit status {self.status}" if self.status > 0 else f"signal {-self.status}"
        return said or f"{program} {self.name} did not terminate successfully: {how}"

    def _printed(self, pipe: int) -> bytes:
        if self._spoken >= 0:
            return os.pread(self._spoken, _MAX_SPOKEN, 0)
        try:
            os.set_blocking(pipe, False)
            return os.read(pipe, _MAX_SPOKEN)
        except BlockingIOError:
            return b""

    def _forget(self) -> None:
        for fd, name in ((self._log, self._log_name), (self._spoken, f"{self._log_name}.err")):
            if fd >= 0:
                os.close(fd)
                try:
                    os.unlink(name, dir_fd=self._directory)
                except FileNotFoundError:
                    pass
        self._log = self._spoken = -1


def run(runtime: Runtime, directory: int, words: list[str], tag: str = "") -> str:
    """Run a command to its end: "" for a success, else why it failed."""
    command = Command(runtime, directory, words, tag)
    command.wait()
    return command.finish()


def _spawn(args: list[str], directory: int, stdio: Stdio) -> int:
    """fork, execve. Raises Internal when there is nothing that can be executed."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(args, directory, stdio, tell)
    os.close(tell)
    try:
        number = os.read(told, 16)
    finally:
        os.close(told)
    if number:
        os.waitpid(pid, 0)
        raise Internal(f"cannot run the OCI runtime {args[0]}: {os.strerror(int(number))}")
    return pid


def _become(args: list[str], directory: int, stdio: Stdio, tell: int) -> NoReturn:
    try:
        process.die_with_parent(signal.SIGKILL)
        os.setpgid(0, 0)  # what is meant for us is not for it
        os.fchdir(directory)
        os.umask(0o022)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        high = [os.dup(fd) for fd in stdio]
        for target, fd in enumerate(high):
            os.dup2(fd, target)
        # Nothing of ours is inherited: a directory of the host in a container is a way out (CVE-2024-21626).
        process.close_on_exec_from(3)
        os.execve(args[0], args, ENVIRONMENT)
    except BaseException as error:
        os.write(tell, str(getattr(error, "errno", 0) or 5).encode())
    finally:
        os._exit(127)
