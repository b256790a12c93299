"""One more process in a running container: exec.

The shim clones a child that is born in the container's pid namespace (setns of the pid namespace decides where
children are born) and in its cgroup; the child enters the other namespaces through the init's pidfd, all at once.
It is visible to the container from its birth: it inherits the shim's being non-dumpable, so nobody inside can look
into it before it has become the user's program (CVE-2016-9962).
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from sampan.linux import clone, paths, process, userns
from sampan.linux.cgroup import Group
from sampan.oci import runtime as oci
from sampan.runtime import container, identity, init, newborn
from sampan.runtime.devices import OpenConsole, open_pty
from sampan.runtime.kernel import JoinCgroup
from sampan.runtime.operation import Operation, Stage

_ALWAYS = clone.NEWNS | clone.NEWUTS | clone.NEWIPC | clone.NEWNET | clone.NEWCGROUP


@dataclass(frozen=True)
class EnterNamespaces:
    """setns(2) by the init's pidfd: all namespaces in one call. The root and cwd become the container's."""

    pidfd: int
    flags: int

    def describe(self) -> str:
        return "join the container's namespaces"

    def apply(self, stage: Stage) -> None:
        clone.setns(self.pidfd, self.flags)
        stage.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@dataclass(frozen=True)
class OpenTerminal:
    """A pty of the container's devpts; the console's fields are filled in for the init stage."""

    console: OpenConsole

    def describe(self) -> str:
        return "open a pseudoterminal"

    def apply(self, stage: Stage) -> None:
        directory = paths.open_in_root(stage.root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.console.master, self.console.peer = open_pty(directory)
        finally:
            os.close(directory)
        if self.console.height or self.console.width:
            process.set_window_size(self.console.master, self.console.height, self.console.width)


@dataclass
class Joined:
    """A process that was put into a container, its program running."""

    pid: int
    pidfd: int
    console: int
    warnings: list[str]


def start(
    spec: oci.Process, init_pidfd: int, init_pid: int, group: Group, stdio: init.Stdio, seccomp: str = ""
) -> Joined:
    """Run `spec` in the container whose process 1 is `init_pid`. Raises StartFailed; nothing is left then."""
    pid_namespace = os.open(f"/proc/{init_pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    join_fds = group.open_join_fds()
    try:
        console = _console(spec)
        work: list[Operation] = [JoinCgroup(group.path, tuple(join_fds))]
        time = clone.NEWTIME if _is_own(init_pid, "time") else 0
        work.append(EnterNamespaces(init_pidfd, _ALWAYS | time))
        if console is not None:
            work.append(OpenTerminal(console))
        sets, _ = identity.final_sets(spec.capabilities)
        setup = init.ProcessSetup(
            spec, sets, identity.last_cap(), identity.read_filter(seccomp), stdio, console
        )
        setup.keep = [init_pidfd, *join_fds]
        if _is_own(init_pid, "user"):  # entering one's own user namespace is EINVAL (setns(2))
            setup.user_namespace = init_pidfd
            setup.uid_map = userns.read_map(init_pid, "uid_map")

        def child(sync: socket.socket) -> None:
            init.run(sync, work, setup)

        pid, pidfd, sync = newborn.clone_child(0, pid_namespace, group.open_v2_fd(), child)
    finally:
        os.close(pid_namespace)
        container.close(join_fds)
    return _await(pid, pidfd, sync)


def _await(pid: int, pidfd: int, sync: socket.socket) -> Joined:
    try:
        _, warnings, master = container.await_exec(sync)
        return Joined(pid, pidfd, master, warnings)
    except BaseException:
        newborn.kill(pidfd)
        os.waitpid(pid, 0)
        raise
    finally:
        sync.close()


def _console(spec: oci.Process) -> OpenConsole | None:
    if not spec.terminal:
        return None
    size = spec.console_size
    return OpenConsole(size.height, size.width) if size else OpenConsole()


def _is_own(init_pid: int, kind: str) -> bool:
    name = clone.NAMESPACES[kind][1]
    return os.readlink(f"/proc/{init_pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
