"""The parent's side of a container: from an OCI spec and a root to a running process 1."""

from __future__ import annotations

import os

from sampan.errors import Internal, NotFound, StartFailed, from_message
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


def start_waiting(child: Newborn, work: str, joined: dict[str, int], stdio: Stdio) -> Running:
    """Hand the work (JSON of Work) to a newborn; it makes its cgroup itself. Returns once the user's program runs.

    `joined` maps a namespace kind to the descriptor of an existing one. Raises StartFailed with everything undone: no
    process, no cgroup. The descriptors stay the caller's.
    """
    try:
        return _launch(child, work, True, ["stdio"] * 3 + list(joined), [*stdio, *joined.values()])
    except BaseException:
        undone = structs.decode(work, type=Work)
        if undone.spec.linux is not None:
            remove_group(undone)
        raise


def start(work: Work, joined: dict[str, int], stdio: Stdio, born_as: int = 0) -> Running:
    """The same without a newborn that fits: the cgroup is made first, so that one can be born in it (v2).

    `born_as` clone.PARENT: the container's first process is our parent's child.
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
        running = _launch(child, text, False, kinds, [*stdio, *join_fds, *entered.values()])
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


def open_group(work: Work) -> Group:
    """The cgroup of a container that was started with `work`. Raises NotFound."""
    assert work.spec.linux is not None
    return Group.open(work.host, work.spec.linux.cgroups_path)


def remove_group(work: Work) -> None:
    """Remove it if it is there. Raises as Group.remove does."""
    try:
        group = open_group(work)
    except NotFound:
        return
    group.remove()


def is_usual(work: Work, joined: Iterable[str]) -> bool:
    """Whether a newborn that waits can become this container."""
    linux = work.spec.linux
    if linux is None or work.host.v2:
        return False
    named = {namespace.type: 0 for namespace in linux.namespaces if namespace.path} | dict.fromkeys(joined, 0)
    kinds = {namespace.type for namespace in linux.namespaces}
    return namespaces.clone_flags(linux, named) == newborn.USUAL and "pid" not in named and "user" not in kinds


def _kinds(flags: int) -> str:
    return ", ".join(kind for kind, (flag, _) in clone.NAMESPACES.items() if flags & flag) or "no"


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _launch(child: Newborn, work: str, make_group: bool, kinds: list[str], fds: list[int]) -> Running:
    try:
        wire.send(child.sync, {"work": work, "make_group": make_group, "fds": kinds}, fds)
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
