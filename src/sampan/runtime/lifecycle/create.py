"""Create: from a bundle to an init stage that waits for `start` (runtime.md, "Lifecycle", steps 1 to 6).

     runtime                                       init
       │ (v2: record written, cgroup made)
       │ clone3(user? mount pid uts ipc …) ──────────▶ │ checks the spec, makes its plan
       │ uid_map, gid_map                              │ namespaces, mounts as far as they need no cgroup (with
       │ (v1, systemd: record written, cgroup made)    │     a user namespace: nothing yet)
       │ ── {"go"} [files to join by] ───────────────▶ │ cgroup, the rest of the plan: mounts, devices
       │ ◀─ {"hooks"} ──────────────────────────────── ┤ (only with hooks) the root is made, not entered
       │ prestart, createRuntime hooks                 │
       │ ── {"go"} ──────────────────────────────────▶ │ createContainer hooks; masks; pivot_root
       │ ◀─ {"ready": Report} [pty master] ─────────── ┤ listens on start.sock
       │ record with the pid written                   │
       │ ── {"wait"} or {"start"} ───────────────────▶ │ gate.py
       ╵ ends, or follows                              │ limits, user, capabilities, seccomp, startContainer hooks
       ◀─ {"exec"}, end of file; or {"error"} ──────── ┤ execve

What fails undoes everything: process, cgroup, directory; poststop hooks run. A runtime that is killed takes the init
stage with it (its socket ends); record and cgroup stay for `delete --force`.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from sampan.errors import Internal, InvalidArgument, SampanError, from_message
from sampan.jobs import channel as wire
from sampan.lean.record import dataclass, field
from sampan.lean.structs import decode, encode
from sampan.linux import clone, process, unix_socket
from sampan.oci import runtime as oci
from sampan.runtime import mount_sources, namespaces, offspring
from sampan.runtime.lifecycle import (
    birth,
    bundle,
    cgroups,
    console,
    filters,
    hierarchies,
    hooks,
    idmaps,
    notify,
    pid_file,
    stage,
    status,
)
from sampan.runtime.lifecycle.records import START_SOCKET, Entry, Record, Registry
from sampan.runtime.operation import Recorder, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from sampan.linux.cgroup import Group
    from sampan.linux.seccomp import Filter
    from sampan.runtime.init import Stdio


_ID_MAPPED = frozenset(("idmap", "ridmap"))


@dataclass
class CreateOptions:
    """What the command line says beyond the bundle. `stdio` are the descriptors the program gets (without a terminal).

    `keep_console`: the terminal's near end stays with the caller (`run` in the foreground). `env`: for the program
    besides what the spec says, unknown to a later exec. `notify`: the program may say that it is ready (notify.py).
    """

    id: str
    bundle: str = "."
    pid_file: str = ""
    console_socket: str = ""
    keep_console: bool = False
    preserve_fds: int = 0
    pivot: bool = True
    new_keyring: bool = True
    systemd: bool = False
    rootless: bool = False
    stdio: Stdio = (0, 1, 2)
    env: list[str] = field(default_factory=list)
    notify: bool = False


@dataclass
class Created:
    """A container whose init stage waits for one word on `sync`: `wait` leaves it to a later start, `start` goes on.

    The entry stays locked until `close`. `console` is the terminal's near end or -1.
    """

    entry: Entry
    record: Record
    spec: oci.Spec
    pid: int
    pidfd: int
    sync: socket.socket
    report: Report
    console: int = -1
    warnings: list[str] = field(default_factory=list)

    def wait(self) -> None:
        """Leave it created: from now on only `start` lets the program run."""
        wire.send(self.sync, {"wait": True})
        self.sync.close()

    def close(self) -> None:
        for fd in (self.pidfd, self.console):
            if fd >= 0:
                os.close(fd)
        self.entry.close()


def create(registry: Registry, options: CreateOptions) -> Created:
    """Make the container of a bundle. Raises SampanError, OSError; nothing is left then. The error's notes, if it has
    any, are warnings.
    """
    spec = bundle.load(options.bundle)
    assert spec.process is not None
    check_console(spec.process, options.console_socket, options.keep_console)
    entry = registry.create(options.id)
    try:
        entry.lock()
        if options.notify:
            notify.prepare(entry, spec, options)
        return _Creation(entry, spec, options).run()
    except BaseException:
        entry.remove()
        entry.close()
        raise


def check_console(process: oci.Process, console_socket: str, keep_console: bool) -> None:
    """Raises InvalidArgument when a terminal is asked for that nobody would hold, or the other way round."""
    if process.terminal and not console_socket and not keep_console:
        raise InvalidArgument("cannot allocate tty if the runtime will detach without setting console socket")
    if console_socket and not process.terminal:
        raise InvalidArgument("cannot use console socket if the runtime will not detach or allocate tty")


class _Creation:
    """One create at work. What it has made is undone by `_undo`.

    What is used only after the clone (stage, cgroups) is executed only then, when it comes out of a pack
    (lean/pack.py): the new process and we do so at the same time.
    """

    def __init__(self, entry: Entry, spec: oci.Spec, options: CreateOptions) -> None:
        assert spec.linux is not None and spec.process is not None and spec.root is not None
        self.entry, self.spec, self.options = entry, spec, options
        self.linux = spec.linux
        self.recorder = Recorder()
        self.warnings: list[str] = []
        self.joined: dict[str, int] = {}
        self.shared: frozenset[str] = frozenset()
        self.staged = False
        self.born: birth.Born | None = None
        self.group: Group | None = None
        self.filter: Filter | None = None
        self.devices = self.linux.net_devices
        self.console = -1
        self.record = Record(
            id=entry.id, bundle=os.path.abspath(options.bundle), rootfs=spec.root.path, created=_now(),
            owner=_owner(), systemd=options.systemd,
            annotations=spec.annotations, creator=os.getpid(), creator_start_time=process.stat(os.getpid()).start_time,
        )

    def run(self) -> Created:
        listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            unix_socket.bind_at(listening, self.entry.fd, START_SOCKET)
            return self._made(listening)
        except BaseException as error:
            for warning in self._undo():
                error.add_note(warning)
            raise
        finally:
            listening.close()
            for fd in self.joined.values():
                os.close(fd)

    def _made(self, listening: _socket.socket) -> Created:
        self.joined = namespaces.open_named(self.linux, {})
        self.shared = namespaces.ours(self.joined)
        self.staged = birth.needs_stage(namespaces.clone_flags(self.linux, self.joined), self.joined)
        if self.devices:
            from sampan.runtime import netdevices  # allowed: the runtime, not the container; rare, and brings netlink

            netdevices.check(self.devices, any(namespace.type == "network" for namespace in self.linux.namespaces))
        self.filter = filters.compile(self.entry.root, self.linux.seccomp)
        born_limited = self._choose_cgroup()
        if born_limited:
            self._make_group()
        born = self.born = self._bear(listening)
        try:
            self._map_ids(born)
            if not born_limited:
                self._make_group()
            self._let_go(born)
        except (SampanError, OSError):
            _raise_what_it_said(born)  # it has ended: its reason is ours
            raise
        self.entry.write_file("config.json", encode(self.spec))  # now, while the init stage works
        report = self._until_ready(born)
        if self.group is None:
            self.record.host = None
        else:
            self.record.cgroups, self.record.cgroup_id = self.group.paths(), self.group.identity()
        self.record.pid, self.record.start_time = born.pid, process.stat(born.pid).start_time
        self._hand_out_console()
        self.entry.write(self.record)
        if self.options.pid_file:
            pid_file.write(self.options.pid_file, born.pid)
        return Created(
            self.entry, self.record, self.spec, born.pid, born.pidfd, born.sync, report, self.console,
            self.warnings + report.warnings,
        )

    def _choose_cgroup(self) -> bool:
        """Which hierarchies. Returns whether the process is to be born in the group (v2).

        Otherwise the group is made while the new process makes its plan: on two processors that takes no time.
        """
        chosen = self.record.host = hierarchies.choose(self.options.rootless)
        if chosen is None:
            return False
        return chosen.mode != "v1" and not self.options.systemd and not self.staged

    def _make_group(self) -> None:
        """Record first: a delete must find what a killed create left."""
        if self.record.host is not None:
            self.record.cgroups_path = cgroups.path_of(
                self.record.host, self.spec, self.entry.id, self.options.systemd
            )
            self.record.cgroups = cgroups.directories(self.record)
        self.entry.write(self.record)
        if self.record.host is None:
            return
        if self.options.systemd:
            assert self.born is not None
            self.group = cgroups.make_scope(self.record, self.born.pid, self.linux)
        else:
            self.group, warnings = cgroups.make(self.record, self.linux)
            self.warnings += warnings
        made = f"make cgroup {self.record.cgroups_path} and set its limits"
        self.recorder.done("Cgroup", made if self.group is not None else cgroups.NO_GROUP)

    def _bear(self, listening: _socket.socket) -> birth.Born:
        """The clone; it waits for {"go"}."""
        flags = namespaces.clone_flags(self.linux, self.joined)
        prepared = self._prepare()

        def work(sync: socket.socket) -> None:
            offspring.guarded(sync, lambda: self._begin(sync, listening.fileno(), prepared))

        try:
            if self.staged:
                born = birth.staged(flags, self.joined, work)
            else:
                cgroup = self.group.open_v2_fd() if self.group is not None else None
                born = birth.directly(flags, cgroup, self.joined, work)
        finally:
            for fd in prepared.values():
                os.close(fd)
        self.recorder.done("Clone", "a process in namespaces of its own")
        return born

    def _prepare(self) -> dict[int, int]:
        """Mounts and devices that the new process may not make (mount_sources.py): most containers have none."""
        if not any(namespace.type == "user" for namespace in self.linux.namespaces) and not any(
            entry.uid_mappings or entry.gid_mappings or not _ID_MAPPED.isdisjoint(entry.options)
            for entry in self.spec.mounts
        ):
            return {}
        return mount_sources.prepare(self.spec, self.joined.get("user", -1), self.entry.fd)

    def _map_ids(self, born: birth.Born) -> None:
        if namespaces.clone_flags(self.linux, self.joined) & clone.NEWUSER:
            idmaps.write(born.pid, self.linux.uid_mappings, self.linux.gid_mappings)

    def _begin(self, sync: socket.socket, listening: int, prepared: dict[int, int]) -> None:
        """In the new process, before it has joined, entered or opened anything."""
        options = self.options
        ready = stage.Ready(
            _with(self.spec, options.env), self.entry.id, self.record.bundle, self.record.host, self.joined,
            self.staged, listening,
            options.stdio, prepared, self.filter, options.preserve_fds, options.pivot, options.new_keyring, self.shared,
        )
        stage.begin(sync, ready)

    def _let_go(self, born: birth.Born) -> None:
        """Mapped, and in its unit where systemd made one: the rest of its cgroups it joins itself, by these files."""
        fds = self.group.open_join_fds(v2=self.staged) if self.group is not None else []
        try:
            wire.send(born.sync, {"go": True}, fds)
        finally:
            for fd in fds:
                os.close(fd)
        if self.group is not None:
            cgroups.hand_over(self.group, self.spec)

    def _until_ready(self, born: birth.Born) -> Report:
        """Follow the init stage until it waits; run the hooks that are the runtime's. Raises the error it reports."""
        while (received := wire.receive(born.sync)) is not None:
            message, fds = received
            if "error" in message:
                raise from_message(message["error"])
            if "hooks" in message:
                self._move_devices(born.pid)
                self._run_hooks(born.pid)
                wire.send(born.sync, {"go": True})
            if "ready" in message:
                self._move_devices(born.pid)
                self.console = fds[0] if fds else -1
                report = decode(message["ready"], Report)
                report.steps = self.recorder.steps + report.steps
                return report
        raise Internal("the container's init stage ended without a word (was it killed by the memory limit?)")

    def _move_devices(self, pid: int) -> None:
        """Once, as soon as the network namespace is there: hooks find the devices in it."""
        devices, self.devices = self.devices, {}
        if devices:
            from sampan.runtime import netdevices  # allowed: the runtime, not the container; rare

            netdevices.move(devices, pid)

    def _run_hooks(self, pid: int) -> None:
        wanted = self.spec.hooks or oci.Hooks()
        state = hooks.state(self.spec, self.record.id, self.record.bundle, status.CREATING, pid)
        hooks.run(wanted.prestart, state, "prestart")
        hooks.run(wanted.create_runtime, state, "createRuntime")

    def _hand_out_console(self) -> None:
        if self.console >= 0 and self.options.console_socket:
            console.send(self.options.console_socket, self.console)
            os.close(self.console)
            self.console = -1

    def _undo(self) -> list[str]:
        """Returns warnings of poststop hooks: they clean up behind the others (runtime.md, "Lifecycle", step 13), and
        run, as under runc, whatever else has failed once there was a process.
        """
        if self.console >= 0:
            os.close(self.console)
        if self.born is not None:
            self.born.kill()
        group = self.group
        if group is not None:
            group.remove()
        wanted = self.spec.hooks
        if self.born is None or wanted is None or not wanted.poststop:
            return []
        state = hooks.state(self.spec, self.record.id, self.record.bundle, status.STOPPED, 0)
        return hooks.run_all(wanted.poststop, state, "poststop")


def _raise_what_it_said(born: birth.Born) -> None:
    """The error that the new process has told, if it has."""
    poll = select.poll()
    poll.register(born.sync, select.POLLIN)
    received = wire.receive(born.sync) if poll.poll(0) else None
    if received is not None and "error" in received[0]:
        raise from_message(received[0]["error"])


def _with(spec: oci.Spec, env: list[str]) -> oci.Spec:
    """The spec, with more in its program's environment: then it is a copy."""
    if env:
        spec = decode(encode(spec), type=oci.Spec)
        assert spec.process is not None
        spec.process.env = spec.process.env + env
    return spec


def _owner() -> str:
    return str(os.geteuid()) if os.geteuid() else ""


def _now() -> str:
    """RFC 3339 with nanoseconds, UTC."""
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
