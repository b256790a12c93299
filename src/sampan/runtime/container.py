"""The parent's side of a container: from an OCI spec and a root to a running process 1."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from sampan.errors import Internal, StartFailed, from_message
from sampan.jobs import channel as wire
from sampan.linux import clone, userns
from sampan.linux.cgroup import Group, Host
from sampan.oci import runtime as oci
from sampan.runtime import identity, init, plan
from sampan.runtime.kernel import JoinCgroup
from sampan.runtime.operation import Operation, Step

Stdio = tuple[int, int, int]


@dataclass
class Running:
    """A container's process 1, its program running. `console` is the near end of its terminal or -1."""

    pid: int
    pidfd: int
    console: int
    group: Group
    warnings: list[str]
    steps: list[Step]


@dataclass
class _Recorder:
    steps: list[Step] = field(default_factory=list)
    begin: int = field(default_factory=time.perf_counter_ns)

    def done(self, name: str, detail: str) -> None:
        now = time.perf_counter_ns()
        self.steps.append(Step(name, detail, (now - self.begin) // 1000))
        self.begin = now


def start(
    spec: oci.Spec, root: Operation, host: Host, joined: dict[str, int], stdio: Stdio,
    seccomp: bytes = b"", with_init: bool = False,
) -> Running:
    """Make the cgroup, clone, let the init stage work, return once the user's program runs.

    `joined` maps a namespace kind to the descriptor of an existing one; namespaces with a path in the spec are opened
    here. Raises StartFailed with everything undone: no process, no cgroup. The descriptors stay the caller's.
    """
    if spec.linux is None or spec.process is None:
        raise StartFailed("the spec has no process or no linux section")
    opened = _open_namespaces(spec.linux, joined)
    opened_fds = list(opened.values())
    recorder = _Recorder()
    try:
        group = Group.create(host, spec.linux.cgroups_path)
    except BaseException:
        close(opened_fds)
        raise
    try:
        warnings = group.apply(spec.linux.resources) if spec.linux.resources else []
        recorder.done("Cgroup", f"make cgroup {spec.linux.cgroups_path} and set its limits")
        join_fds = group.open_join_fds()
        opened_fds += join_fds
        work = plan.make(spec, root, JoinCgroup(group.path, tuple(join_fds)), host, joined | opened)
        setup = _setup(spec.process, seccomp, stdio, warnings)
        setup.console, setup.with_init = work.console, with_init
        setup.keep = [*joined.values(), *opened_fds]
        setup.user_namespace = (joined | opened).get("user", -1)
        setup.uid_map = id_maps(spec.linux)[0]
        running = _launch(spec.linux, work, setup, group, joined | opened, recorder)
        running.warnings[:0] = warnings
        return running
    except BaseException:
        group.remove()
        raise
    finally:
        close(opened_fds)


def id_maps(linux: oci.Linux) -> tuple[list[userns.Mapping], list[userns.Mapping]]:
    """(uid, gid) mappings of a spec's user namespace."""
    uids = [(entry.container_id, entry.host_id, entry.size) for entry in linux.uid_mappings]
    gids = [(entry.container_id, entry.host_id, entry.size) for entry in linux.gid_mappings]
    return uids, gids


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _setup(process: oci.Process, seccomp: bytes, stdio: Stdio, warnings: list[str]) -> init.ProcessSetup:
    sets, missing = identity.final_sets(process.capabilities)
    warnings += missing
    return init.ProcessSetup(process, sets, identity.last_cap(), seccomp, stdio)


def _open_namespaces(linux: oci.Linux, joined: dict[str, int]) -> dict[str, int]:
    opened: dict[str, int] = {}
    try:
        for namespace in linux.namespaces:
            if namespace.path and namespace.type not in joined:
                opened[namespace.type] = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        close(opened.values())
        raise StartFailed(f"cannot join the {namespace.type} namespace {namespace.path}: {error.strerror}") from error
    return opened


def _launch(
    linux: oci.Linux, work: plan.Plan, setup: init.ProcessSetup, group: Group, joined: dict[str, int],
    recorder: _Recorder,
) -> Running:
    def child(sync: socket.socket) -> None:
        init.run(sync, work.inside, setup)

    with _time_namespace(work.flags, linux.time_offsets):
        pid, pidfd, sync = clone_child(work.flags & ~clone.NEWTIME, joined.get("pid", -1), group.open_v2_fd(), child)
    recorder.done("Clone", "clone3 " + " ".join(kind for kind in clone.NAMESPACES if _is_new(kind, work.flags)))
    try:
        steps, warnings, console = await_exec(sync)
        recorder.done("Init", "from the clone to the program's first instruction")
        return Running(pid, pidfd, console, group, warnings, recorder.steps + steps)
    except BaseException:
        end(pid, pidfd)
        raise
    finally:
        sync.close()


@contextmanager
def _time_namespace(flags: int, offsets: dict[str, dict[str, int]]) -> Iterator[None]:
    """Children are born in a new time namespace, whose offsets are set while it is empty (time_namespaces(7))."""
    if not flags & clone.NEWTIME:
        yield
        return
    own = os.open("/proc/self/ns/time", os.O_RDONLY | os.O_CLOEXEC)
    try:
        clone.unshare(clone.NEWTIME)
        lines = [f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n" for clock, offset in offsets.items()]
        if lines:
            fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, "".join(lines).encode())
            finally:
                os.close(fd)
        yield
    finally:
        clone.setns(own, clone.NEWTIME)
        os.close(own)


def _is_new(kind: str, flags: int) -> bool:
    return bool(flags & clone.NAMESPACES[kind][0])


def clone_child(
    flags: int, pid_namespace: int, v2_cgroup: int | None, child: Callable[[socket.socket], None]
) -> tuple[int, int, socket.socket]:
    """clone3 into a v2 cgroup and, if one is given, another pid namespace: it is where children are born, not we.

    `child` runs in the new process with its end of the socket. Returns (pid, pidfd, our end); closes `v2_cgroup`.
    """
    ours, theirs = wire.pair()
    own = -1
    try:
        if pid_namespace >= 0:
            own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            clone.setns(pid_namespace, clone.NEWPID)
        pid, pidfd = clone.clone3(flags, -1 if v2_cgroup is None else v2_cgroup)
        if pid == 0:
            child(theirs)
            os._exit(127)
    except BaseException:
        ours.close()
        raise
    finally:
        if own >= 0:
            clone.setns(own, clone.NEWPID)
            os.close(own)
        if v2_cgroup is not None:
            os.close(v2_cgroup)
        theirs.close()
    return pid, pidfd, ours


def await_exec(sync: socket.socket) -> tuple[list[Step], list[str], int]:
    """Follow the init stage to its end: (steps, warnings, console or -1). Raises the error it reports."""
    steps: list[Step] = []
    warnings: list[str] = []
    console = -1
    ready = False
    try:
        while (received := wire.receive(sync)) is not None:
            message, fds = received
            console = fds[0] if fds else console
            if "error" in message:
                raise from_message(message["error"])
            if "ready" in message:
                ready = True
                steps = msgspec.convert(message["ready"]["steps"], list[Step])
                warnings += message["ready"]["warnings"]
            warnings += message.get("warnings", [])
        if not ready:
            raise Internal("the container's init stage ended without a word (was it killed by the memory limit?)")
    except BaseException:
        if console >= 0:
            os.close(console)
        raise
    return steps, warnings, console


def end(pid: int, pidfd: int) -> None:
    """Kill a child of ours and take its exit; closes the pidfd."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)
    os.close(pidfd)
