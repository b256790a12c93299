"""The init stage of a bundle's container: what the process does between its clone and the program.

Out of a pack (lean/pack.py) the new process executes this and what it needs by itself, while the runtime makes the
cgroup. Nothing is imported or looked up in the container.
"""

from __future__ import annotations

import os

from sampan.jobs import channel as wire
from sampan.lean.record import dataclass
from sampan.linux import clone, interpreter, process
from sampan.linux.cgroup import membership
from sampan.oci import runtime as oci
from sampan.runtime import attributes, identity, init, mount_sources, namespaces, plan
from sampan.runtime.lifecycle import hooks, status
from sampan.runtime.operation import Operation, Recorder, Report, Stage
from sampan.runtime.rootfs import Directory, operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from sampan.linux.cgroup import Host
    from sampan.linux.seccomp import Filter


@dataclass
class Ready:
    """What the runtime has made for the stage. Descriptors stay the runtime's; the stage has its own copies of them.

    `joined`: kind → descriptor of a namespace to enter; `staged`: they were entered before. `listening`: the bound
    socket to wait on for `start`. `prepared`: sources of mounts (mount_sources.py). `shared`: the kinds of `joined`
    that are the runtime's own.
    """

    spec: oci.Spec
    id: str
    bundle: str
    host: Host | None
    joined: Mapping[str, int]
    staged: bool
    listening: int
    stdio: init.Stdio
    prepared: dict[int, int]
    filter: Filter | None = None
    preserve_fds: int = 0
    pivot: bool = True
    new_keyring: bool = True
    shared: frozenset[str] = frozenset()


def begin(sync: socket.socket, ready: Ready) -> None:
    """In the new process, with its end of the socket. Returns only by an exception."""
    preserved = range(3, 3 + ready.preserve_fds)
    process.close_all_but([  # the record's directory above all: its lock would be ours as well
        sync.fileno(), ready.listening, *ready.stdio, *ready.joined.values(), *ready.prepared.values(), *preserved,
    ])
    recorder = Recorder()
    spec = ready.spec
    assert spec.process is not None and spec.linux is not None and spec.root is not None
    warnings = attributes.check(spec, ready.shared)
    source = ready.prepared.get(mount_sources.ROOT, -1) if ready.prepared else -1
    root = operation(Directory(spec.root.path), spec.root.path, source)
    extras = _extras(sync, ready)
    join = AwaitGo(sync) if extras.join_late else None
    what = plan.make(spec, root, join, ready.host, ready.joined, extras)
    sets, lacking = identity.final_sets(spec.process.capabilities)
    setup = init.ProcessSetup(
        spec.process, sets, identity.last_cap(), ready.filter, ready.stdio, what.console, linux=spec.linux,
        gate=ready.listening, preserve_fds=ready.preserve_fds, follow=False, trampoline=not interpreter.is_readonly(),
        start_hooks=_hooks(ready, "startContainer"),
    )
    recorder.done("Plan", f"{len(what.inside)} operations from the spec")
    init.perform_and_become(sync, what.inside, setup, Report({}, warnings + lacking), recorder)


def _extras(sync: socket.socket, ready: Ready) -> plan.Extras:
    spec = ready.spec
    assert spec.process is not None and spec.linux is not None
    own_user = any(namespace.type == "user" for namespace in spec.linux.namespaces)
    mapped_first = own_user or ready.staged
    extras = plan.Extras(
        first=[
            *([AwaitGo(sync)] if mapped_first else []),
            *attributes.first_operations(spec.process, ready.id, ready.new_keyring, own_user),
        ],
        behind_cgroup=attributes.affinity_operations(None, "final"), join_late=not mapped_first,
        entered=ready.staged, become_root=bool(namespaces.clone_flags(spec.linux, ready.joined) & clone.NEWUSER),
        pivot=ready.pivot, prepared=ready.prepared,
    )
    wanted = spec.hooks
    if (wanted is not None and (wanted.prestart or wanted.create_runtime)) or spec.linux.net_devices:
        extras.before_pivot.append(AskForHooks(sync))
    extras.before_pivot += _hooks(ready, "createContainer")
    return extras


def _hooks(ready: Ready, where: str) -> list[Operation]:
    wanted = ready.spec.hooks
    if wanted is None:
        return []
    if where == "createContainer":
        found, word = wanted.create_container, status.CREATING
    else:
        found, word = wanted.start_container, status.CREATED
    return [RunHooks(where, found, ready, word)] if found else []


@dataclass(frozen=True)
class AwaitGo:
    """We are mapped, and in our unit if systemd makes one. Join the cgroups that were made while we made our plan."""

    sync: socket.socket

    def describe(self) -> str:
        return "wait for the cgroup, join it"

    def apply(self, stage: Stage) -> None:
        received = wire.receive(self.sync)
        if received is None:
            os._exit(1)
        membership.join(received[1])
        for fd in received[1]:
            os.close(fd)


@dataclass(frozen=True)
class AskForHooks:
    """The root is made and not yet entered: the runtime acts now, in its own namespaces (config.md, "Hooks")."""

    sync: socket.socket

    def describe(self) -> str:
        return "wait for the prestart and createRuntime hooks"

    def apply(self, stage: Stage) -> None:
        wire.send(self.sync, {"hooks": True})
        if wire.receive(self.sync) is None:
            os._exit(1)


@dataclass(frozen=True)
class RunHooks:
    """Hooks that the init stage runs itself, in the container's namespaces."""

    where: str
    hooks: list[oci.Hook]
    ready: Ready
    word: str

    def describe(self) -> str:
        return f"run the {self.where} hooks"

    def apply(self, stage: Stage) -> None:
        ready = self.ready
        now = hooks.state(ready.spec, ready.id, ready.bundle, self.word, os.getpid())
        if self.where == "createContainer":  # where runc and crun run them: "mount --bind /host/lib ./lib"
            os.fchdir(stage.root)
        hooks.run(self.hooks, now, self.where)
