"""The parent's side of a container: from an OCI spec and a root to a running process 1."""

from __future__ import annotations

import os

from sampan.errors import Internal, StartFailed, from_message
from sampan.jobs import channel as wire
from sampan.lean import structs
from sampan.lean.record import dataclass
from sampan.linux import clone
from sampan.linux.cgroup import Group
from sampan.runtime import namespaces, newborn
from sampan.runtime.init import Stdio
from sampan.runtime.newborn import Newborn, Work
from sampan.runtime.operation import Recorder, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable


@dataclass
class Running:
    """A container's process 1, its program running. `console` is the near end of its terminal or -1.

    `report` is the JSON of a Report, `warnings` came after it. Nothing here is decoded that need not be: a shim
    lives long, and every page it touches is its own from then on.
    """

    pid: int
    pidfd: int
    console: int
    report: str
    warnings: list[str]


def start(work: Work, joined: dict[str, int], stdio: Stdio, born_as: int = 0) -> Running:
    """Start a container in a process cloned for it: the cgroup is made first, so that it can be born in it (v2).

    Returns once the user's program runs. `joined` maps a namespace kind to the descriptor of an existing one. Raises
    StartFailed with everything undone: no process, no cgroup. The descriptors stay the caller's. `born_as`
    clone.PARENT: the container's first process is our parent's child.
    """
    linux = work.spec.linux
    if linux is None or work.spec.process is None:
        raise StartFailed("the spec has no process or no linux section")
    recorder = Recorder()
    opened = namespaces.open_named(linux, joined)
    fds = list(opened.values())
    group: Group | None = None
    try:
        group, warnings = newborn.make_group(linux, work.host, recorder)
        join_fds = group.open_join_fds()
        fds += join_fds
        entered = joined | opened
        flags = namespaces.clone_flags(linux, entered)
        child = newborn.create(flags | born_as, group.open_v2_fd(), entered.get("pid", -1))
        recorder.done("Clone", f"a process in {_kinds(flags)} namespaces of its own")
        kinds = ["stdio"] * 3 + ["cgroup"] * len(join_fds) + list(entered)
        text = structs.encode(work).decode()
        running = _launch(child, text, kinds, [*stdio, *join_fds, *entered.values()])
        report = structs.decode(running.report, type=Report)
        whole = Report(group.paths(), warnings + report.warnings, recorder.steps + report.steps)
        running.report = structs.encode(whole).decode()
        return running
    except BaseException:
        if group is not None:
            group.remove()
        raise
    finally:
        close(fds)


def remove_group(work: Work) -> None:
    """Remove the cgroup of a container that was started with `work`, if it is there. Raises as Group.remove does."""
    if work.spec.linux is not None:
        Group.at(work.host, work.spec.linux.cgroups_path).remove()


def is_usual(work: Work, joined: Iterable[str]) -> bool:
    """Whether a process that was born ahead can become this container (newborn.become).

    Not with an init of ours, which never executes a program: its husk would wait for that (linux/husk.py). Nor in a
    time namespace, which the kernel keeps from whoever shares his memory. Nor as a peer of the host's mounts, which who
    has mounted something ahead is no more.
    """
    linux = work.spec.linux
    if linux is None or work.host.v2 or work.with_init:
        return False
    named = {namespace.type: 0 for namespace in linux.namespaces if namespace.path} | dict.fromkeys(joined, 0)
    if linux.rootfs_propagation.endswith("shared"):
        return False
    kinds = {namespace.type for namespace in linux.namespaces}
    return namespaces.clone_flags(linux, named) == newborn.USUAL and "pid" not in named and not kinds & {"user", "time"}


def _kinds(flags: int) -> str:
    return ", ".join(kind for kind, (flag, _) in clone.NAMESPACES.items() if flags & flag) or "no"


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _launch(child: Newborn, work: str, kinds: list[str], fds: list[int]) -> Running:
    try:
        wire.send(child.sync, {"work": work, "fds": kinds}, fds)
        report, warnings, console = await_exec(child.sync)
        child.sync.close()
        return Running(child.pid, child.pidfd, console, report, warnings)
    except BaseException:
        child.end()
        raise


def await_exec(sync: socket.socket) -> tuple[str, list[str], int]:
    """Follow the init stage to its end: (report, later warnings, console or -1). Raises the error it reports."""
    report = ""
    warnings: list[str] = []
    console = -1
    try:
        while (received := wire.receive(sync)) is not None:
            message, fds = received
            console = fds[0] if fds else console
            if "error" in message:
                raise from_message(message["error"])
            report = message.get("ready", report)
            warnings += message.get("warnings", [])
        if not report:
            raise Internal("the container's init stage ended without a word (was it killed by the memory limit?)")
    except BaseException:
        if console >= 0:
            os.close(console)
        raise
    return report, warnings, console
