"""A process born in the new namespaces, waiting to be told which container it is.

The work arrives as a message with its descriptors (`create`), or the process has it already (`become`): then it was
born ahead of any request, because the clone, the copying of page tables and the page faults after it are the largest
part of a start, and none of it depends on the request. Either way it becomes the container's init stage (init.py).
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.jobs import channel as wire
from sampan.lean import structs
from sampan.lean.record import dataclass
from sampan.linux import clone, process, signals, userns
from sampan.linux.cgroup.group import Group
from sampan.linux.cgroup.host import Host
from sampan.oci import runtime as oci
from sampan.runtime import identity, init, namespaces, offspring, plan
from sampan.runtime.kernel import JoinCgroup
from sampan.runtime.operation import Recorder, Report
from sampan.runtime.rootfs import Rootfs, operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

    from sampan.runtime.ahead import Spare

USUAL = clone.NEWPID | clone.NEWNS | clone.NEWUTS | clone.NEWIPC


class Work(structs.Struct):
    """What a newborn is to become. `mount_at` is an existing directory of ours to attach the root on, in the
    container's mount namespace only; `seccomp` the path of a compiled filter or "".
    """

    spec: oci.Spec
    rootfs: Rootfs
    mount_at: str
    host: Host
    seccomp: str = ""
    with_init: bool = False


@dataclass
class Newborn:
    """A waiting child."""

    pid: int
    pidfd: int
    sync: socket.socket

    def end(self) -> None:
        """Kill it and wait for its end. Its exit is left for its parent, who may be ours, to take."""
        self.sync.close()
        offspring.kill(self.pidfd)


def create(flags: int, v2_cgroup: int | None = None, pid_namespace: int = -1) -> Newborn:
    """clone3 into new namespaces, a v2 cgroup and, if one is given, an existing pid namespace. Closes `v2_cgroup`.

    With clone.PARENT among the flags it is not our child but our parent's. Raises OSError.
    """
    pid, pidfd, sync = offspring.clone_child(flags, pid_namespace, v2_cgroup, _wait)
    return Newborn(pid, pidfd, sync)


def _wait(sync: socket.socket) -> NoReturn:
    process.die_with_parent(signals.SIGKILL)
    process.close_all_but([sync.fileno()])
    received = wire.receive(sync)
    if received is None:
        os._exit(0)
    message, fds = received
    offspring.guarded(sync, lambda: _begin(sync, message["work"], False, message["fds"], fds))


def become(
    sync: socket.socket, work: str, joined: dict[str, int], stdio: init.Stdio, spare: Spare | None = None
) -> NoReturn:
    """The calling process, born in the namespaces of USUAL, becomes the container of `work` (JSON of Work).

    It makes its cgroup itself. What it has to say goes to `sync`, as init.py's chart has it; `joined` maps a namespace
    kind to the descriptor of an existing one. `spare` is what it has made ahead. All other descriptors are closed.
    """
    made = spare.descriptors() if spare is not None else []
    process.close_all_but([sync.fileno(), *joined.values(), *stdio, *made])
    kinds = ["stdio"] * 3 + list(joined)
    offspring.guarded(sync, lambda: _begin(sync, work, True, kinds, [*stdio, *joined.values()], spare))


def _begin(
    sync: socket.socket, text: str, makes_group: bool, kinds: list[str], fds: list[int],
    spare: Spare | None = None,
) -> None:
    """Become the container of the Work that `text` is the JSON of. `makes_group`: its cgroup is made here.

    `kinds` says what each descriptor is: "stdio" (three, in order), "cgroup" (files to join by), or the kind of a
    namespace to enter.
    """
    recorder = Recorder()
    work = structs.decode(text, type=Work)
    spec = work.spec
    if spec.process is None or spec.linux is None:
        raise InvalidArgument("the spec has no process or no linux section")
    given = list(zip(kinds, fds, strict=True))
    stdio = [fd for kind, fd in given if kind == "stdio"]
    joined = {kind: fd for kind, fd in given if kind not in ("stdio", "cgroup")}
    joined |= namespaces.open_named(spec.linux, joined)
    join_fds = [fd for kind, fd in given if kind == "cgroup"]
    report = Report({})
    if makes_group:
        group, report.warnings = make_group(spec.linux, work.host, recorder)
        report.cgroups = group.paths()
        join_fds = group.open_join_fds()
    join = JoinCgroup(spec.linux.cgroups_path, tuple(join_fds))
    what = plan.make(spec, operation(work.rootfs, work.mount_at), join, work.host, joined)
    sets, warnings = identity.final_sets(spec.process.capabilities)
    setup = init.ProcessSetup(
        spec.process, sets, identity.last_cap(), identity.read_filter(work.seccomp), (stdio[0], stdio[1], stdio[2]),
        what.console, work.with_init, joined.get("user", -1),
        userns.of_spec(spec.linux.uid_mappings),
    )
    if spare is not None:
        what.inside = spare.finish(what.inside, spec, "network" in joined)
        pages = spare.ahead.pages
        if (pagemap := pages.open()) >= 0:
            setup.entered = lambda: pages.learn(pagemap)
    recorder.done("Plan", f"{len(what.inside)} operations from the spec")
    report.warnings += warnings
    init.perform_and_become(sync, what.inside, setup, report, recorder)


def make_group(linux: oci.Linux, host: Host, recorder: Recorder) -> tuple[Group, list[str]]:
    """The container's cgroup with its limits, and the host's warnings. Undone if it fails."""
    group = Group.create(host, linux.cgroups_path)
    try:
        warnings = group.apply(linux.resources) if linux.resources else []
    except BaseException:
        group.remove()
        raise
    recorder.done("Cgroup", f"make cgroup {linux.cgroups_path} and set its limits")
    return group, warnings
