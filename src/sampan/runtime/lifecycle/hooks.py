"""The spec's hooks (config.md, "POSIX-platform Hooks"): programs run at points of a container's life.

    where             run by                    with                                    a failure
    prestart          the runtime               the runtime's namespaces                fails create
    createRuntime     the runtime               the runtime's namespaces                fails create
    createContainer   the init stage            the container's namespaces, host's root fails create
    startContainer    the init stage            the container's namespaces and root     fails start
    poststart         the runtime               the runtime's namespaces                fails start (runtime-spec 1.2)
    poststop          the runtime               the runtime's namespaces                is a warning, the next one runs

poststop hooks run behind every container that had a process: also where create failed, so that they can take back what
the hooks before them did.

A hook gets the state on stdin, its own arguments and its own environment: nothing of ours, nothing of the container's
(CVE-2025-23266: LD_PRELOAD out of an image ran in a privileged hook). Its process inherits no descriptor but stdio.
Everything here works in the init stage as well: nothing is imported, looked up or executed but the hook itself.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time

from sampan.errors import InvalidArgument, StartFailed
from sampan.lean.record import dataclass
from sampan.lean.structs import encode
from sampan.linux import process, signals
from sampan.oci import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_OUTPUT = 4096
"""Bytes of a failing hook's stdout and stderr that its message quotes; the rest is read and dropped."""

_FOREVER = 2_000_000  # seconds: poll(2) counts milliseconds in an int
_RESTORED = (signals.SIGPIPE, signals.SIGXFSZ)  # Python ignores these; a program expects their defaults


def check(hooks: Iterable[oci.Hook], where: str) -> None:
    """Raises InvalidArgument for a hook that can never run: before anything is made. Touches no file."""
    for number, hook in enumerate(hooks):
        wrong = _fault(hook)
        if wrong:
            raise InvalidArgument(f"{where} hook #{number} ({hook.path!r}): {wrong}")


def check_all(wanted: oci.Hooks) -> None:
    """The same for those of all points."""
    check(wanted.prestart, "prestart")
    check(wanted.create_runtime, "createRuntime")
    check(wanted.create_container, "createContainer")
    check(wanted.start_container, "startContainer")
    check(wanted.poststart, "poststart")
    check(wanted.poststop, "poststop")


def _fault(hook: oci.Hook) -> str:
    if not hook.path.startswith("/"):
        return "path is not absolute"
    if hook.timeout is not None and hook.timeout <= 0:
        return f"timeout {hook.timeout} is not greater than zero"
    if any("\0" in text for text in (hook.path, *hook.args, *hook.env)):
        return "contains a NUL byte"
    if any(not entry.partition("=")[0] or "=" not in entry for entry in hook.env):
        return "an entry of env is not NAME=value"
    return ""


def run(hooks: Sequence[oci.Hook], state: dict[str, object], where: str) -> None:
    """Run them in order, each to its end. `state` is what `state` prints; `where` names the point ("prestart").

    The working directory is the caller's. Raises StartFailed, with what the hook wrote, at the first that fails.
    """
    if not hooks:
        return
    check(hooks, where)
    text = encode(state)
    for number, hook in enumerate(hooks):
        _run(hook, text, f"error running {where} hook #{number} ({hook.path})")


def run_all(hooks: Sequence[oci.Hook], state: dict[str, object], where: str) -> list[str]:
    """Run every one, whatever the others do: the rule of poststop. Returns a warning for each that failed."""
    warnings = []
    text = encode(state) if hooks else b""
    for number, hook in enumerate(hooks):
        try:
            check([hook], where)
            _run(hook, text, f"error running {where} hook #{number} ({hook.path})")
        except (StartFailed, InvalidArgument) as error:
            warnings.append(str(error))
    return warnings


def state(spec: oci.Spec, container_id: str, bundle: str, word: str, pid: int) -> dict[str, object]:
    """What hooks get on their stdin (runtime.md, "State"). No pid once there is none."""
    found: dict[str, object] = {
        "ociVersion": oci.VERSION, "id": container_id, "status": word, "bundle": bundle,
    }
    if pid:
        found["pid"] = pid
    if spec.annotations:
        found["annotations"] = spec.annotations
    return found


@dataclass
class _Pipes:
    """Our ends: what the hook writes, and where its process tells that execve failed (errno, end of file if not)."""

    stdout: int
    stderr: int
    failed: int


def _run(hook: oci.Hook, state: bytes, about: str) -> None:
    """One hook. A file of memory is its stdin: a hook that never reads can block nobody, however long the state is."""
    opened: list[int] = []
    try:
        stdin = os.memfd_create("state", os.MFD_CLOEXEC)
        opened.append(stdin)
        _write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        opened += [end for pair in ends for end in pair]
        pid = os.fork()
        if pid == 0:
            _become(hook, stdin, ends[0][1], ends[1][1], ends[2][1])
        pidfd = os.pidfd_open(pid)
        opened.append(pidfd)
        for _, writing in ends:
            os.close(writing)
            opened.remove(writing)
        _follow(hook, pid, pidfd, _Pipes(ends[0][0], ends[1][0], ends[2][0]), about)
    finally:
        for fd in opened:
            os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _become(hook: oci.Hook, stdin: int, stdout: int, stderr: int, failed: int) -> None:
    """The child's side: never returns. A group of its own, so that a timeout ends what the hook started as well."""
    try:
        os.setpgid(0, 0)
        for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        for number in _RESTORED:
            signals.signal(number, signals.SIG_DFL)
        signals.pthread_sigmask(signals.SIG_SETMASK, ())
        process.close_all_but([failed])
        os.execve(hook.path, hook.args or [hook.path], dict(entry.partition("=")[::2] for entry in hook.env))
    except OSError as error:
        os.write(failed, struct.pack("i", error.errno or errno.EINVAL))
    finally:
        os._exit(127)


def _follow(hook: oci.Hook, pid: int, pidfd: int, pipes: _Pipes, about: str) -> None:
    """Read what it says until it has ended, or until its time is over. Only its own end counts: what it left running
    may keep the pipes open for ever.
    """
    said = {pipes.stdout: b"", pipes.stderr: b""}
    try:
        in_time = _read_until_end(said, pidfd, hook.timeout)
    except BaseException:  # Ctrl-C, which a hook's own group does not hear of
        _kill_group(pid)
        os.waitpid(pid, 0)
        raise
    if not in_time:
        _kill_group(pid)
    _, status = os.waitpid(pid, 0)
    number = os.read(pipes.failed, 4) if _readable(pipes.failed) else b""
    if number:
        raise StartFailed(f"{about}: {os.strerror(struct.unpack('i', number)[0]).lower()}")
    for fd in said:
        os.set_blocking(fd, False)
        _take(said, fd)
    outputs = f"stdout: {_quoted(said[pipes.stdout])}, stderr: {_quoted(said[pipes.stderr])}"
    if not in_time:
        raise StartFailed(f"{about}: hook ran past specified timeout of {hook.timeout}s, {outputs}")
    if status:
        raise StartFailed(f"{about}: {_ended(status)}, {outputs}")


def _read_until_end(said: dict[int, bytes], pidfd: int, timeout: int | None) -> bool:
    deadline = None if timeout is None else time.monotonic() + min(timeout, _FOREVER)
    poll = select.poll()
    for fd in (pidfd, *said):
        poll.register(fd, select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = poll.poll(left)
        if not ready:
            return False
        for fd, _ in ready:
            if fd != pidfd and not _take(said, fd):
                poll.unregister(fd)
        if any(fd == pidfd for fd, _ in ready):
            return True
        if deadline is not None and time.monotonic() >= deadline:  # one that writes without end is late as well
            return False


def _take(said: dict[int, bytes], fd: int) -> bool:
    """Read once, keep no more than is quoted. False at the end of file."""
    try:
        chunk = os.read(fd, 65536)
    except BlockingIOError:
        return True
    said[fd] += chunk[: MAX_OUTPUT - len(said[fd])]
    return bool(chunk)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _kill_group(pid: int) -> None:
    """The hook and what it started. Not yet waited for, so its number is still its own."""
    for kill in (os.killpg, os.kill):  # it may not have made its group yet
        try:
            kill(pid, signals.SIGKILL)
        except ProcessLookupError:
            pass


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


def _quoted(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip().replace("\n", "; ")
