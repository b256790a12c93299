"""Exec: one more process in a container (not in the spec; runc's `exec`)."""

from __future__ import annotations

import os

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.lean.record import dataclass, field
from sampan.linux import interpreter
from sampan.linux.cgroup import Group
from sampan.oci import runtime as oci
from sampan.runtime import attributes, enter, init
from sampan.runtime.lifecycle import console, filters, hooks, pid_file, status
from sampan.runtime.lifecycle.create import check_console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.runtime.lifecycle.records import Entry, Record


@dataclass
class ExecOptions:
    """What the command line says. `process` is complete: nothing is taken over from the container's own, which `spec`
    has (`Entry.spec`), but on which CPUs an exec runs, where `process` says nothing of it. Both may be the same object.

    `cgroup`: controller, or "" for all others → path below the container's own group, where the process goes to.
    Others as in CreateOptions.
    """

    spec: oci.Spec
    process: oci.Process
    pid_file: str = ""
    console_socket: str = ""
    keep_console: bool = False
    preserve_fds: int = 0
    ignore_paused: bool = False
    new_keyring: bool = True
    cgroup: dict[str, str] = field(default_factory=dict)
    stdio: init.Stdio = (0, 1, 2)


def is_watched(record: Record, spec: oci.Spec) -> bool:
    """Whether somebody in the container may look into what joins it, until it becomes the user's program: its own
    process, or one that an exec has put there.

    Being non-dumpable keeps all others out. In a user namespace of its own nobody is able to: our memory belongs to the
    host's (ptrace(2), "Ptrace access mode checking").
    """
    return record.watched or (spec.process is not None and _may_trace(spec, spec.process))


def _may_trace(spec: oci.Spec, process: oci.Process) -> bool:
    sets = process.capabilities
    return sets is not None and not _own_user(spec) and "CAP_SYS_PTRACE" in (*sets.bounding, *sets.permitted)


def _own_user(spec: oci.Spec) -> bool:
    return spec.linux is not None and any(namespace.type == "user" for namespace in spec.linux.namespaces)


def execute(entry: Entry, options: ExecOptions) -> enter.Joined:
    """Run a process in a running (or created) container; it is our child. The caller closes its descriptors.

    Raises Conflict when the container does not run or is paused, or what went wrong inside; nothing is left then.
    """
    check_console(options.process, options.console_socket, options.keep_console)
    record = entry.read()
    found = status.of(entry, record)
    if found == status.STOPPED:
        raise Conflict("cannot exec in a stopped container")
    if found == status.PAUSED and not options.ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    warnings = attributes.check_process(options.process)
    try:
        pidfd = status.open_pidfd(record)
    except NotFound:
        raise Conflict("cannot exec in a stopped container") from None
    try:
        if _may_trace(options.spec, options.process) and not record.watched:
            _remember(entry)
        joined = _join(entry, record, options, pidfd)
        joined.warnings = warnings + joined.warnings
    finally:
        os.close(pidfd)
    try:
        if joined.console >= 0 and options.console_socket:
            console.send(options.console_socket, joined.console)
            os.close(joined.console)
            joined.console = -1
        if options.pid_file:
            pid_file.write(options.pid_file, joined.pid)
    except BaseException:
        joined.end()
        raise
    return joined


def _remember(entry: Entry) -> None:
    """That there will be one who may look, before there is: for every exec from now on."""
    entry.lock()
    try:
        record = entry.read()
        record.watched = True
        entry.write(record)
    finally:
        entry.unlock()


def _join(entry: Entry, record: Record, options: ExecOptions, pidfd: int) -> enter.Joined:
    spec, process = options.spec, options.process
    assert spec.linux is not None and spec.process is not None
    affinity = process.exec_cpu_affinity or spec.process.exec_cpu_affinity
    extras = enter.Extras(
        spec.linux,
        first=[
            *attributes.first_operations(process, entry.id, options.new_keyring, _own_user(spec)),
            *attributes.affinity_operations(affinity, "initial"),
        ],
        behind_cgroup=attributes.affinity_operations(affinity, "final"),
        preserve_fds=options.preserve_fds, trampoline=not interpreter.is_readonly(),
        state=hooks.state(spec, entry.id, record.bundle, status.RUNNING, record.pid),
    )
    group = _group(entry, record, options.cgroup)
    filter = filters.compile(entry.root, spec.linux.seccomp)
    return enter.start(process, pidfd, record.pid, group, options.stdio, filter, extras)


def _group(entry: Entry, record: Record, below: Mapping[str, str]) -> Group | None:
    """The container's group, or those that were chosen below it. Raises NotFound for one that is not there."""
    group = entry.group(record)
    if group is None:
        return None
    if not below:
        return group.of_process(record.pid)
    directories = group.paths()
    for controller in below:
        if controller and controller not in directories:
            raise InvalidArgument(f"unknown controller {controller}: the container is in no cgroup of it")
    for controller, directory in directories.items():
        path = below.get(controller, below.get("", ""))
        names = path.strip("/").split("/")
        if any(name in (".", "..") for name in names) or "" in names[1:]:
            raise InvalidArgument(f"{path} is not a sub cgroup path: it is taken below the container's own")
        if names[0]:
            directories[controller] = f"{directory}/{'/'.join(names)}"
            if not os.path.isdir(directories[controller]):
                raise NotFound(
                    f"adding pid of the process to cgroups: {directories[controller]}/cgroup.procs: "
                    "no such file or directory"
                )
    return Group(group.host, group.path, directories)
