"""From an OCI spec to the init stage's plan: which operations, in which order. Pure; tested without root."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass, field
from sampan.oci import runtime as oci
from sampan.runtime import clocks, credentials, mount_entries, namespaces, options, target, terminal
from sampan.runtime.cgroup_mount import MountCgroups
from sampan.runtime.kernel import (
    JoinNamespace,
    LoopbackUp,
    NewCgroupNamespace,
    NewIpcNamespace,
    NewNetworkNamespace,
    SetHostname,
    SetOomScore,
    SetSysctl,
)
from sampan.runtime.masks import MaskPath, ReadonlyPath
from sampan.runtime.mounts import MountFilesystem
from sampan.runtime.operation import Operation
from sampan.runtime.root import DetachPropagation, EnterRoot, EnterRootWithoutPivot, ReadonlyRoot
from sampan.runtime.working_directory import MakeWorkingDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.linux.cgroup import Host


@dataclass
class Plan:
    """`inside` runs in the new namespaces up to the pivot; `flags` are clone3's; `console` is in `inside` if any."""

    flags: int
    inside: list[Operation] = field(default_factory=list)
    console: terminal.OpenConsole | None = None


@dataclass
class Extras:
    """What an OCI runtime adds to the plan; the engine's own containers have none of it.

    `first`: before anything else, still on the host's /proc. `behind_cgroup`: the cgroup is joined, nothing more.
    `join_late`: the cgroup is still being made; it is joined when something needs it, a cgroup namespace or mount.
    `before_pivot`: the root is made, its masks are not. `entered`: the process is in all of `joined` already.
    `become_root`: it is in a user namespace of the container, unmapped as yet. `pivot` False: by MS_MOVE and chroot.
    `prepared`: what the runtime opened or made for mounts and devices (mount_sources.py), by their keys.
    """

    first: list[Operation] = field(default_factory=list)
    behind_cgroup: list[Operation] = field(default_factory=list)
    before_pivot: list[Operation] = field(default_factory=list)
    join_late: bool = False
    entered: bool = False
    become_root: bool = False
    pivot: bool = True
    prepared: dict[int, int] = field(default_factory=dict)


def make(
    spec: oci.Spec, root: Operation, join_cgroup: Operation | None, host: Host | None, joined: Mapping[str, int],
    extras: Extras | None = None,
) -> Plan:
    """The plan for a spec. `root` makes the root file system; `joined`: kind → descriptor of a namespace to enter."""
    linux, process = spec.linux, spec.process
    if linux is None or process is None:
        raise InvalidArgument("the spec has no process or no linux section")
    if extras is None:
        extras = Extras()
        if process.oom_score_adj is not None:
            extras.first.append(SetOomScore(process.oom_score_adj))
    kinds = {namespace.type for namespace in linux.namespaces}
    if "mount" not in kinds:
        raise InvalidArgument("the spec has no mount namespace: the container would change the host's mounts")
    plan = Plan(namespaces.clone_flags(linux, joined))
    plan.inside += extras.first
    join = ([join_cgroup] if join_cgroup is not None else []) + extras.behind_cgroup
    late = extras.join_late and "cgroup" not in kinds - set(joined)
    plan.inside += [] if late else join
    plan.inside += _namespaces(spec, {} if extras.entered else joined, kinds - set(joined), "uts" in kinds)
    if extras.become_root:
        plan.inside.append(credentials.BecomeNamespaceRoot())
        if "ipc" in kinds - set(joined):
            plan.inside.append(NewIpcNamespace())
    propagation = _propagation(linux)
    plan.inside += [DetachPropagation(propagation), root]
    mounts = mount_entries.operations(linux, spec.mounts, host, "cgroup" in kinds, extras.prepared)
    plan.inside += _with_join(mounts, join) if late else mounts
    plan.inside += mount_entries.device_operations(linux, spec.mounts, extras.prepared)
    if process.terminal:
        size = process.console_size
        plan.console = terminal.OpenConsole(size.height, size.width) if size else terminal.OpenConsole()
        plan.inside.append(plan.console)
    plan.inside += [SetSysctl(key, value) for key, value in linux.sysctl.items()]
    plan.inside += extras.before_pivot
    readonly = [path for path in linux.readonly_paths if target.clean(path) != "/"]
    plan.inside += [ReadonlyPath(path) for path in readonly]
    plan.inside += [MaskPath(path) for path in linux.masked_paths]
    if process.cwd.strip("/"):
        plan.inside.append(MakeWorkingDirectory(process.cwd))
    plan.inside += mount_entries.readonly_operations(spec.mounts)
    if (spec.root is not None and spec.root.readonly) or len(readonly) < len(linux.readonly_paths):
        plan.inside.append(ReadonlyRoot())  # of the root as a whole: it is a mount already, and is filled until here
    plan.inside.append(EnterRoot(propagation) if extras.pivot else EnterRootWithoutPivot(propagation))
    return plan


def _namespaces(spec: oci.Spec, joined: Mapping[str, int], new: set[str], has_uts: bool) -> list[Operation]:
    """`new`: the kinds that are neither the host's nor joined. `has_uts`: the UTS namespace is not the host's; a joined
    one gets the spec's names, too, as under runc and crun.
    """
    operations: list[Operation] = [
        JoinNamespace(kind, fd) for kind, fd in joined.items() if kind not in ("pid", "user")
    ]
    if "cgroup" in new:
        operations.append(NewCgroupNamespace())
    if "time" in new:
        assert spec.linux is not None
        operations.append(clocks.NewTimeNamespace(spec.linux.time_offsets))
    if "network" in new:
        operations += [NewNetworkNamespace(), LoopbackUp()]
    if (spec.hostname or spec.domainname) and has_uts:
        operations.append(SetHostname(spec.hostname, spec.domainname))
    return operations


def _with_join(mounts: list[Operation], join: list[Operation]) -> list[Operation]:
    """The mounts, with the joining of the cgroup in front of the first that shows cgroups, or that fills memory with
    what the image has: it counts against the container's limit.
    """
    place = next((at for at, mount in enumerate(mounts) if _needs_group(mount)), len(mounts))
    return mounts[:place] + join + mounts[place:]


def _needs_group(mount: Operation) -> bool:
    return isinstance(mount, MountCgroups) or (isinstance(mount, MountFilesystem) and mount.options.copy_up)


def _propagation(linux: oci.Linux) -> int:
    try:
        return options.root_propagation(linux.rootfs_propagation)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
