"""The parent's side of a container: from an OCI spec and a root to a running process 1."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from sampan.errors import Internal, StartFailed, from_message
from sampan.jobs import channel as wire
from sampan.linux import clone, userns
from sampan.linux.cgroup import Group, Host
from sampan.oci import runtime as oci
from sampan.runtime import newborn, plan
from sampan.runtime.newborn import Newborn, Work
from sampan.runtime.operation import Step
from sampan.runtime.rootfs import Rootfs

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
    spec: oci.Spec, rootfs: Rootfs, mount_at: str, host: Host, joined: dict[str, int], stdio: Stdio,
    seccomp: str = "", with_init: bool = False, waiting: Newborn | None = None,
) -> Running:
    """Make the cgroup, clone, let the init stage work, return once the user's program runs.

    `joined` maps a namespace kind to the descriptor of an existing one; namespaces with a path in the spec are opened
    here. `mount_at` is an existing directory of ours to attach the root on, in the container's mount namespace only.
    `seccomp` is the path of a compiled filter or "". `waiting` is used if it was born in the right namespaces, else
    ended. Raises StartFailed with everything undone: no process, no cgroup. The descriptors stay the caller's.
    """
    if spec.linux is None or spec.process is None:
        raise StartFailed("the spec has no process or no linux section")
    recorder = _Recorder()
    opened = _open_namespaces(spec.linux, joined)
    fds = list(opened.values())
    group: Group | None = None
    try:
        group = Group.create(host, spec.linux.cgroups_path)
        warnings = group.apply(spec.linux.resources) if spec.linux.resources else []
        recorder.done("Cgroup", f"make cgroup {spec.linux.cgroups_path} and set its limits")
        join_fds = group.open_join_fds()
        fds += join_fds
        entered = joined | opened
        child, waiting = _newborn(spec.linux, entered, group, waiting), None
        recorder.done("Clone", f"a process in {_kinds(child.flags)} namespaces of its own")
        kinds = ["stdio"] * 3 + ["cgroup"] * len(join_fds) + list(entered)
        work = Work(spec, rootfs, mount_at, host, seccomp, with_init, kinds)
        running = _launch(child, work, [*stdio, *join_fds, *entered.values()], group, recorder)
        running.warnings[:0] = warnings
        return running
    except BaseException:
        if waiting is not None:
            waiting.end()
        if group is not None:
            group.remove()
        raise
    finally:
        close(fds)


def _newborn(linux: oci.Linux, entered: dict[str, int], group: Group, waiting: Newborn | None) -> Newborn:
    """The one that waits if it fits, else a new one: in a v2 cgroup from birth, where there is one."""
    flags = plan.clone_flags(linux, entered)
    v2_cgroup = group.open_v2_fd()
    if waiting is not None:
        if waiting.flags == flags and v2_cgroup is None and "pid" not in entered:
            return waiting
        waiting.end()
    with _time_namespace(flags, linux.time_offsets):
        return newborn.create(flags & ~clone.NEWTIME, v2_cgroup, entered.get("pid", -1))


def _kinds(flags: int) -> str:
    return ", ".join(kind for kind, (flag, _) in clone.NAMESPACES.items() if flags & flag) or "no"


def id_maps(linux: oci.Linux) -> tuple[list[userns.Mapping], list[userns.Mapping]]:
    """(uid, gid) mappings of a spec's user namespace."""
    uids = [(entry.container_id, entry.host_id, entry.size) for entry in linux.uid_mappings]
    gids = [(entry.container_id, entry.host_id, entry.size) for entry in linux.gid_mappings]
    return uids, gids


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


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


def _launch(child: Newborn, work: Work, fds: list[int], group: Group, recorder: _Recorder) -> Running:
    try:
        wire.send(child.sync, msgspec.to_builtins(work), fds)
        steps, warnings, console = await_exec(child.sync)
        recorder.done("Init", "from its work's arrival to the program's first instruction")
        child.sync.close()
        return Running(child.pid, child.pidfd, console, group, warnings, recorder.steps + steps)
    except BaseException:
        child.end()
        raise


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
