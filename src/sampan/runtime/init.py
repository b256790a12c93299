"""The init stage: what the first process of a container, or one that joins it, does before the user's program.

Everything it needs was imported before the clone. After entering the root nothing of the container is opened but
what the plan names, and nothing of it is executed but the program asked for (SECURITY.md, class 2).

    shim                                   init stage
      │ clone3; the work, with descriptors ──▶│
      │                                       │ the plan: namespaces, mounts, devices, masks, pivot_root
      │◀─ {"ready": Report} [pty] ──────── ─┤
      │                                       │ terminal, limits, capabilities, user, seccomp, execve
      │◀─ end of file: the program runs ──────┤  the socket is close-on-exec
      │◀─ {"error": …} ───────────────────────┤  or why not
"""

from __future__ import annotations

import errno
import os
import select
import stat

from sampan.errors import StartFailed
from sampan.jobs import channel as wire
from sampan.lean import structs
from sampan.lean.record import dataclass, field
from sampan.linux import capability, clone, paths, process, seccomp, signals, trampoline, userns
from sampan.oci import runtime as oci
from sampan.runtime import attributes, gate, offspring, pid1, users, working_directory
from sampan.runtime.identity import LayDownOverrides
from sampan.runtime.operation import Operation, Recorder, Report, Stage, perform

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import NoReturn

    from sampan.linux.seccomp import Filter
    from sampan.runtime.terminal import OpenConsole

Stdio = tuple[int, int, int]

_LONGEST_REPORT, _LAST_STEPS = 1 << 17, 20

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class ProcessSetup:
    """All that the init stage needs beyond its plan, made ready before the clone.

    `stdio` are the descriptors for 0, 1 and 2 (ignored with a terminal). `with_init`: stay as process 1 and reap.
    `user_namespace` is the one to enter last, by its own or a process's descriptor; `uid_map` is its mapping.
    `gate`: the socket to wait on for the word to start (gate.py), -1: go on at once. `start_hooks` run just before the
    program, as the user it runs as. `preserve_fds`: that many descriptors from 3 on are the program's. `follow`: end
    with the parent. `born_late`: the program's process is not this one but a sibling, born as the user it is, where our
    children go (setns(2) of a pid namespace). `entered` is called in the root, as the one we are still. `trampoline`:
    we run on a writable interpreter, which nobody inside may get hold of.
    """

    process: oci.Process
    sets: capability.Sets | None
    last_cap: int
    seccomp: Filter | None
    stdio: Stdio
    console: OpenConsole | None = None
    with_init: bool = False
    user_namespace: int = -1
    uid_map: list[userns.Mapping] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    linux: oci.Linux | None = None
    gate: int = -1
    start_hooks: list[Operation] = field(default_factory=list)
    preserve_fds: int = 0
    follow: bool = True
    trampoline: bool = False
    born_late: bool = False
    entered: Callable[[], None] | None = None


def run(sync: socket.socket, plan: list[Operation], setup: ProcessSetup) -> NoReturn:
    """Do the plan, become the user's program. Never returns; what fails goes to the other side as one message."""
    process.close_all_but([sync.fileno(), *setup.stdio, *setup.keep])
    offspring.guarded(sync, lambda: perform_and_become(sync, plan, setup, Report({}), Recorder()))


def perform_and_become(
    sync: socket.socket, plan: list[Operation], setup: ProcessSetup, report: Report, recorder: Recorder
) -> None:
    """Apply a plan and become the user's program; returns only by an exception. Completes `report` and sends it."""
    stage = Stage(warnings=report.warnings)
    perform(plan, stage, recorder)
    report.steps = recorder.steps
    _become(sync, stage, setup, report)


def _become(sync: socket.socket, stage: Stage, setup: ProcessSetup, report: Report) -> None:
    spec = setup.process
    identity = users.resolve(spec.user, stage.root)
    environment = _environment(spec.env, identity.home)
    console = setup.console
    working_directory.enter(stage.root, spec.cwd)
    stdio = setup.stdio
    if console is not None:
        _give(console.peer, _host_uid(setup, identity.uid))
        stdio = (console.peer, console.peer, console.peer)
    else:
        stdio = _own_stdio(stage.root, stdio, _host_uid(setup, identity.uid))
    notifies = setup.seccomp is not None and setup.seccomp.flags & seccomp.FLAG_NEW_LISTENER
    # the trampoline loads the filter; but hooks run the image's programs, under the same filter as the container's
    aboard = setup.trampoline and spec.no_new_privileges and not notifies and not setup.start_hooks
    filter = None if aboard else setup.seccomp
    hide = [LayDownOverrides(setup.sets)] if setup.trampoline and setup.sets is not None else []
    early = hide if spec.no_new_privileges and filter is not None else []  # its filter may forbid it later
    birth = [BeBornLate(sync, setup)] if setup.born_late else []
    last = attributes.process_operations(
        spec, identity, setup.sets, setup.last_cap, linux=setup.linux, filter=filter, sync=sync.fileno(),
        user_namespace=setup.user_namespace, before_filter=[*birth, *early] if spec.no_new_privileges else (),
    )
    if not spec.no_new_privileges:
        last += birth
    os.umask(0o022 if spec.user.umask is None else spec.user.umask)
    for target, fd in enumerate(stdio):  # while it waits it keeps nothing open that a caller reads to its end
        os.dup2(fd, target)
    if not birth:
        _lead_session(console is not None)
    if setup.gate >= 0:
        _find(spec.args, environment.get("PATH", DEFAULT_PATH))  # what cannot be started is not created, as with runc
    if setup.entered is not None:
        setup.entered()
    masters = [console.master] if console is not None else []
    if setup.gate >= 0:
        gate.listen(setup.gate)
    wire.send(sync, {"ready": _told(report)}, masters)
    if setup.gate >= 0:
        gate.wait(sync, setup.gate)
        wire.send(sync, {"exec": True})  # from here on only an error is news: a filter may forbid to say more
    stage.warnings = []
    board = _trampoline(sync, setup.seccomp if aboard else None) if setup.trampoline else -1
    if birth:
        preserved = range(3, 3 + setup.preserve_fds)
        process.close_all_but([sync.fileno(), board, setup.user_namespace, *preserved])
    perform(last, stage, Recorder())
    if stage.warnings:
        wire.send(sync, {"warnings": stage.warnings})
    perform(setup.start_hooks, stage, Recorder())
    program = _find(spec.args, environment.get("PATH", DEFAULT_PATH))
    if not early:
        perform(hide, stage, Recorder())
    _execute(sync, setup, program, environment, board)


@dataclass(frozen=True)
class BeBornLate:
    """Be born in the pid namespace of others, who see nothing but a process that may no more than the program.

    Even one with the right to trace gains nothing by looking into it (CVE-2016-9962). The child, our parent's, goes on;
    we say who it is, and end.
    """

    sync: socket.socket
    setup: ProcessSetup

    def describe(self) -> str:
        return "be born in the container's pid namespace"

    def apply(self, stage: Stage) -> None:
        pid = clone.clone_sibling()
        if pid != 0:
            wire.send(self.sync, {"born": pid})
            os._exit(0)
        _lead_session(self.setup.console is not None)


def _lead_session(terminal: bool) -> None:
    """A session of its own; stdin is its terminal, if it has one."""
    os.setsid()
    if terminal:
        process.set_controlling_terminal(0)


def _told(report: Report) -> str:
    """As JSON. Of a plan of thousands of operations only the end of what was done is told: a message has its bounds."""
    text = structs.encode(report)
    if len(text) > _LONGEST_REPORT:
        report.steps = report.steps[-_LAST_STEPS:]
        text = structs.encode(report)
    return text.decode()


def _trampoline(sync: socket.socket, filter: Filter | None) -> int:
    if filter is None:
        return trampoline.create(sync.fileno())
    return trampoline.create(sync.fileno(), filter.bpf, filter.flags)


def _host_uid(setup: ProcessSetup, uid: int) -> int:
    return userns.to_host(setup.uid_map, uid) if setup.user_namespace >= 0 else uid


def _own_stdio(root: int, stdio: Stdio, uid: int) -> Stdio:
    """Nothing of the host's may be reached through stdio, and what is reached must be usable.

    The host's /dev/null is replaced by the container's own: a chmod of /proc/self/fd/0 would change the host's. And
    /dev/stdout must be openable by a program that is not root: its pipe belongs to the user then.
    """
    found = []
    for fd in stdio:
        status = os.fstat(fd)
        if uid != 0 and stat.S_ISFIFO(status.st_mode):
            _give(fd, uid)
        found.append(_own_null(root) if _is_null(status) else fd)
    return found[0], found[1], found[2]


def _give(fd: int, uid: int) -> None:
    try:
        os.fchown(fd, uid, -1)
    except PermissionError:  # somebody's whom our user namespace does not know; it can be used, not opened
        pass
    except OSError as error:
        if error.errno != errno.EINVAL:  # a uid that is not mapped: BecomeUser has the words for it
            raise


def _own_null(root: int) -> int:
    """The container's /dev/null; where something else is there (CVE-2025-52565) a pipe that is at its end."""
    try:
        fd = paths.open_in_root(root, "/dev/null", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        if _is_null(os.fstat(fd)):
            return fd
        os.close(fd)
    except OSError:
        pass  # a hostile or empty /dev: the program still gets a stdin that has ended
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.close(writing)
    return reading


def _is_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _environment(entries: list[str], home: str) -> dict[str, str]:
    environment = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    if not environment.get("HOME"):
        environment["HOME"] = home
    return environment


def _execute(
    sync: socket.socket, setup: ProcessSetup, program: str, environment: dict[str, str], board: int
) -> NoReturn:
    args = setup.process.args
    poll = select.poll()
    for number in (signals.SIGPIPE, signals.SIGXFSZ):  # Python ignores these two; a program expects their defaults
        signals.signal(number, signals.SIG_DFL)
    process.close_on_exec_from(3 + setup.preserve_fds)
    if setup.with_init:
        pid1.fork_child(sync)
    if setup.follow:
        process.die_with_parent(signals.SIGKILL)
        poll.register(sync, select.POLLHUP)
        if poll.poll(0):  # the shim ended before the kernel knew that we follow it
            os._exit(137)
    signals.pthread_sigmask(signals.SIG_SETMASK, [])
    try:
        if board >= 0:
            trampoline.execute(board, program, args, environment)
        os.execve(program, args, environment)
    except OSError as error:
        raise _exec_failed(args[0], error) from error


def _find(args: list[str], search: str) -> str:
    """The program's path inside the container, as execvp would find it. Raises StartFailed 127 or 126."""
    if not args or not args[0]:
        raise StartFailed("no command specified: give one, or set CMD or ENTRYPOINT in the image", 127)
    name = args[0]
    if "/" in name:
        _check_executable(name, name)
        return name
    denied = False
    for directory in search.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            _check_executable(candidate, name)
            return candidate
        except StartFailed as error:
            denied = denied or error.exit_code == 126
    if denied:
        raise StartFailed(f'exec: "{name}": permission denied', 126)
    raise StartFailed(f'exec: "{name}": executable file not found in $PATH', 127)


def _check_executable(path: str, name: str) -> None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StartFailed(f'exec: "{name}": stat {path}: no such file or directory', 127) from error
    except OSError as error:
        raise _exec_failed(name, error) from error
    if status.st_mode & 0o170000 == 0o040000:
        raise StartFailed(f'exec: "{name}": is a directory', 126)
    if not os.access(path, os.X_OK, effective_ids=True):
        raise StartFailed(f'exec: "{name}": permission denied', 126)


def trampoline_failed(name: str, word: str) -> StartFailed:
    """What the parent makes of {"trampoline": word}: the error of the program `name`'s execve."""
    call, number = trampoline.reason(word)
    return _exec_failed(name, OSError(number, f"{call}: {os.strerror(number)}"))


def _exec_failed(name: str, error: OSError) -> StartFailed:
    if error.errno == errno.ENOENT:  # the file is there: what is missing is its interpreter or dynamic loader
        return StartFailed(f'exec: "{name}": no such file or directory (its interpreter or loader is missing)', 127)
    reason = os.strerror(error.errno or 0).lower()
    return StartFailed(f'exec: "{name}": {reason}', 126)
