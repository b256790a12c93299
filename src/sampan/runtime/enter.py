"""One more process in a running container: exec.

    shim            joining process                    program
      │ fork ────────────▶│ cgroup, namespaces by the init's pidfd, terminal
      │                   │ user, capabilities
      │                   │ clone(PARENT) ────────────────▶│ born in the container's pid namespace
      │◀─ {"born"} ───────┤ ends                           │ seccomp, execve
      │◀─ end of file, or {"error"} ───────────────────────┤

What joins is not in the container's pid namespace, so nobody inside sees it; what goes on is born there with nothing of
the host: its root and its descriptors are the container's, and so are its rights, but where they have to change later
(`_may_be_born_late`). A process with CAP_SYS_PTRACE inside may look into it, and gains nothing; others may not, because
it is not dumpable (CVE-2016-9962).
"""

from __future__ import annotations

import os

from sampan.errors import Conflict, Internal, SampanError, from_message
from sampan.jobs import channel as wire
from sampan.lean.record import dataclass, field
from sampan.linux import clone, libc, process, seccomp, seccomp_answer, userns
from sampan.linux.cgroup.group import Group
from sampan.oci import runtime as oci
from sampan.runtime import container, identity, init, offspring
from sampan.runtime.credentials import BecomeNamespaceRoot
from sampan.runtime.kernel import JoinCgroup
from sampan.runtime.operation import Operation, Stage
from sampan.runtime.terminal import OpenConsole, find_devpts, open_pty

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from sampan.linux.seccomp import Filter

_ALWAYS = clone.NEWPID | clone.NEWNS | clone.NEWUTS | clone.NEWIPC | clone.NEWNET | clone.NEWCGROUP


@dataclass(frozen=True)
class EnterNamespaces:
    """setns(2) by the init's pidfd: all namespaces in one call. The root and cwd become the container's.

    The pid namespace is where children will be born; the caller stays where it is.
    """

    pidfd: int
    flags: int

    def describe(self) -> str:
        return "join the container's namespaces"

    def apply(self, stage: Stage) -> None:
        process.prctl(process.PR_SET_DUMPABLE, 0)  # not earlier: /proc/self is root's then
        clone.setns(self.pidfd, self.flags)
        stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@dataclass(frozen=True)
class OpenTerminal:
    """A pty of the container's devpts; the console's fields are filled in for the init stage."""

    console: OpenConsole

    def describe(self) -> str:
        return "open a pseudoterminal"

    def apply(self, stage: Stage) -> None:
        directory = find_devpts(stage.root)
        try:
            self.console.master, self.console.peer = open_pty(directory)
        finally:
            os.close(directory)
        if self.console.height or self.console.width:
            process.set_window_size(self.console.master, self.console.height, self.console.width)


@dataclass(frozen=True)
class BeBornEarly:
    """Fork into the pid namespace that was joined. The child, our parent's, goes on; we say who it is, and end.

    Who may trace inside can do with it what only the host's root may: this is for what init.BeBornLate cannot do. It
    takes with it what `setup` still needs, and no other descriptor.
    """

    sync: socket.socket
    setup: init.ProcessSetup

    def describe(self) -> str:
        return "be born in the container's pid namespace"

    def apply(self, stage: Stage) -> None:
        console = self.setup.console
        terminal = [console.master, console.peer] if console is not None else []
        preserved = range(3, 3 + self.setup.preserve_fds)
        process.close_all_but(
            [self.sync.fileno(), stage.root, *self.setup.stdio, *terminal, self.setup.user_namespace, *preserved]
        )
        pid, _ = clone.clone3(clone.PARENT)
        if pid != 0:
            wire.send(self.sync, {"born": pid})
            os._exit(0)


@dataclass
class Joined:
    """A process that was put into a container, its program running. `console` is -1 without a terminal.

    `report` is what was done, an `operation.Report` as JSON: for those who want to know.
    """

    pid: int = -1
    pidfd: int = -1
    console: int = -1
    report: str = "{}"
    warnings: list[str] = field(default_factory=list)

    def end(self) -> None:
        """It did not come that far: kill it, take its exit."""
        if self.console >= 0:
            os.close(self.console)
        if self.pid >= 0:
            offspring.kill(self.pidfd)
            os.waitpid(self.pid, 0)


@dataclass
class Extras:
    """What an OCI runtime adds; the engine's own processes have none of it.

    `first`: before anything else. `behind_cgroup`: the cgroup is joined, nothing more. `linux`: of the container, for
    what is set anew in each process. `trampoline` as in init.ProcessSetup. `state` of the container, for the agent of a
    seccomp policy that notifies.
    """

    linux: oci.Linux
    first: list[Operation] = field(default_factory=list)
    behind_cgroup: list[Operation] = field(default_factory=list)
    preserve_fds: int = 0
    trampoline: bool = False
    state: dict[str, object] = field(default_factory=dict)


def start(
    spec: oci.Process, init_pidfd: int, init_pid: int, group: Group | None, stdio: init.Stdio,
    filter: Filter | None = None, extras: Extras | None = None,
) -> Joined:
    """Run `spec` in the container whose process 1 is `init_pid`, in its cgroup.

    Raises StartFailed, Conflict when the container is ending; nothing is left then.
    """
    try:
        return _start(spec, init_pidfd, init_pid, group, stdio, filter, extras)
    except (SampanError, OSError) as error:
        if _is_ending(init_pid):
            raise Conflict("the container is ending") from error
        raise


def _start(
    spec: oci.Process, init_pidfd: int, init_pid: int, group: Group | None, stdio: init.Stdio,
    filter: Filter | None, extras: Extras | None,
) -> Joined:
    join_fds = group.open_join_fds() if group is not None else []
    try:
        setup = _setup(spec, init_pidfd, init_pid, stdio, filter, extras)
        setup.keep = [init_pidfd, *join_fds, *range(3, 3 + setup.preserve_fds)]
        setup.born_late = not _is_own(init_pid, "user") and _may_be_born_late(setup)
        work = _work(setup, init_pidfd, init_pid, group, join_fds, extras)

        def child(sync: socket.socket) -> None:
            init.run(sync, work if setup.born_late else [*work, BeBornEarly(sync, setup)], setup)

        others = process.children()
        v2 = group.open_v2_fd() if group is not None else None
        joining, joining_pidfd, sync = offspring.clone_child(0, -1, v2, child)
    finally:
        container.close(join_fds)
    joined = Joined()
    try:
        _follow(sync, joined, spec, extras, others | {joining})
    except BaseException:
        joined.end()
        raise
    finally:
        sync.close()
        offspring.kill(joining_pidfd)
        os.waitpid(joining, 0)
        if joined.pid < 0:
            _end_nameless(process.children() - others)
    return joined


def _setup(
    spec: oci.Process, init_pidfd: int, init_pid: int, stdio: init.Stdio, filter: Filter | None, extras: Extras | None
) -> init.ProcessSetup:
    sets, _ = identity.final_sets(spec.capabilities, own_user_namespace=_is_own(init_pid, "user"))
    setup = init.ProcessSetup(spec, sets, identity.last_cap(), filter, stdio, _console(spec))
    if extras is not None:
        setup.linux, setup.preserve_fds, setup.trampoline = extras.linux, extras.preserve_fds, extras.trampoline
        setup.follow = False
    elif _is_own(init_pid, "user"):  # entering one's own user namespace is EINVAL (setns(2))
        setup.user_namespace = init_pidfd
        setup.uid_map = userns.read_map(init_pid, "uid_map")
    return setup


def _may_be_born_late(setup: init.ProcessSetup) -> bool:
    """Whether what is left to do once its rights are those of the program can be done with these. Without a user
    namespace of the container's: nobody in one may trace what was executed outside and is not dumpable (ptrace(2)).

    A filter that has to be loaded before must allow the birth. Who is born does not get his parent's deadline
    (sched(7)), and counts one more against a limit of the user's processes.
    """
    spec, filter = setup.process, setup.seccomp
    if spec.scheduler is not None or any(limit.type == "RLIMIT_NPROC" for limit in spec.rlimits):
        return False
    if filter is None or spec.no_new_privileges:
        return libc.NR_CLONE >= 0
    if filter.flags & seccomp.FLAG_NEW_LISTENER:
        return False  # who asks about it waits for the birth
    calls = {"clone": (clone.PARENT,), "sendmsg": (), "exit_group": (), "setsid": ()}
    if setup.console is not None:
        calls["ioctl"] = (0, process.TIOCSCTTY)
    return all(seccomp_answer.allows(filter.bpf, call, *arguments) for call, arguments in calls.items())


def _work(
    setup: init.ProcessSetup, init_pidfd: int, init_pid: int, group: Group | None, join_fds: list[int],
    extras: Extras | None,
) -> list[Operation]:
    work: list[Operation] = [*extras.first] if extras is not None else []
    if group is not None:
        work.append(JoinCgroup(group.path, tuple(join_fds)))
    if extras is None:
        flags = _ALWAYS | (clone.NEWTIME if _is_own(init_pid, "time") else 0)
    else:
        work += extras.behind_cgroup
        flags = sum(flag for kind, (flag, _) in clone.NAMESPACES.items() if _is_own(init_pid, kind))
    work.append(EnterNamespaces(init_pidfd, flags))
    if flags & clone.NEWUSER:
        work.append(BecomeNamespaceRoot())
    if setup.console is not None:
        work.append(OpenTerminal(setup.console))
    return work


def _follow(
    sync: socket.socket, joined: Joined, spec: oci.Process, extras: Extras | None, others: set[int]
) -> None:
    """Take in what both processes say, in any order, until the program runs or none is left. Raises their error.

    `others` are children of ours that were there before. Each thing is said once: whoever may trace inside can speak
    for the one that was born there, and shall fill nobody's memory.
    """
    ready, error = False, None
    listener: tuple[int, list[int]] | None = None
    said: set[str] = set()
    while (received := wire.receive(sync)) is not None:
        message, fds = received
        policy = extras.linux.seccomp if extras is not None else None
        _check_words(message, fds, said, spec.terminal, policy is not None)
        if "born" in message:
            joined.pidfd = offspring.claim(message["born"], others)
            joined.pid = message["born"]
        elif "error" in message:
            error = from_message(message["error"])
        elif "trampoline" in message:
            error = init.trampoline_failed(spec.args[0], message["trampoline"])
        elif "seccomp" in message:
            listener = message["seccomp"], fds
        elif "ready" in message:
            ready, joined.report = True, message["ready"]
            joined.console = fds[0] if fds else -1
        elif "warnings" in message:
            joined.warnings += [str(warning) for warning in message["warnings"]]
        if listener and joined.pid >= 0 and extras is not None and policy is not None:
            from sampan.runtime import seccomp_agent  # allowed: the runtime, not the container; rare

            seccomp_agent.hand_over(sync, *listener, joined.pidfd, joined.pid, policy, extras.state)
            listener = None
    if error is not None:
        raise error
    if not ready or joined.pid < 0:
        raise Internal("the process that joins the container ended without a word (was it killed by the memory limit?)")


_WORDS = {"born": int, "error": dict, "trampoline": str, "seccomp": int, "ready": str, "warnings": list}


def _check_words(message: dict[str, Any], fds: list[int], said: set[str], terminal: bool, policy: bool) -> None:
    """One word at a time, of the type it has, once, and descriptors only with two of them: a terminal's, and that of a
    seccomp policy's listener. Raises Internal.
    """
    word = next(iter(message), "")
    wanted = (0, 1) if (word == "ready" and terminal) or (word == "seccomp" and policy) else (0,)
    right = len(message) == 1 and isinstance(message[word], _WORDS.get(word, ())) and word not in said
    if right and word == "trampoline":
        right = len(message[word]) == 4 and message[word][1:].isdecimal() and message[word].isascii()
    if not right or len(fds) not in wanted:
        container.close(fds)
        raise Internal("the process that joins the container says what it should not")
    said.add(word)


def _end_nameless(pids: set[int]) -> None:
    """What joined was killed before it could say who goes on inside: without us nobody would take that one's exit, and
    process 1 of the container could never end (it waits for all of its namespace, pid_namespaces(7)).
    """
    for pid in pids:
        offspring.kill(os.pidfd_open(pid))
        os.waitpid(pid, 0)


def _console(spec: oci.Process) -> OpenConsole | None:
    if not spec.terminal:
        return None
    size = spec.console_size
    return OpenConsole(size.height, size.width) if size else OpenConsole()


def _is_ending(pid: int) -> bool:
    """A process that ends lets go of its namespaces before its pidfd says so: process 1 waits for the others first."""
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")
    except FileNotFoundError:
        return True
    return False


def _is_own(init_pid: int, kind: str) -> bool:
    name = clone.NAMESPACES[kind][1]
    return os.readlink(f"/proc/{init_pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
