"""Mounts made ahead: /proc, /dev and /sys with all that lies in them and over them, before it is known for whom.

    a spare       does the operations of the plan before it that concern these three, on a root of its own, which only
                  its own mount namespace has
    its start     moves the three into the container's root (move_mount(2)), if its plan has the same operations

They are half of a plan's kernel calls. Nothing of one container reaches another with them: what is learned from a
start is its outline, the words of its spec for mounts and masks, and only who asks for the very same words gets what
was made. Masks are laid over file systems that no container has come near yet.
"""

from __future__ import annotations

import os

from sampan.lean import structs
from sampan.linux import mount
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries, target
from sampan.runtime.cgroup_mount import MountCgroups
from sampan.runtime.devices import MakeDevice, PopulateDev
from sampan.runtime.kernel import (
    JoinCgroup,
    JoinNamespace,
    LoopbackUp,
    NewCgroupNamespace,
    NewNetworkNamespace,
    SetHostname,
    SetOomScore,
)
from sampan.runtime.masks import MaskPath, ReadonlyPath
from sampan.runtime.mounts import BindMount, MountFilesystem, ReadonlyMounts
from sampan.runtime.operation import Operation, Stage
from sampan.runtime.root import BindRoot, DetachPropagation, EnterRoot, MountOverlay, ReadonlyRoot
from sampan.runtime.terminal import OpenConsole

# Destination → the type that is made ahead. A tmpfs must name its mode: it would take that of the directory it covers.
_KINDS = {
    "/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/dev/shm": "tmpfs",
    "/sys": "sysfs",
}
_TOPS = ("proc", "dev", "sys")
# A directory of the host that every kernel has and that no start looks into.
_PLACE = "/proc/fs"

_ANYWHERE = (
    JoinCgroup, JoinNamespace, NewCgroupNamespace, NewNetworkNamespace, LoopbackUp, SetHostname, SetOomScore,
    DetachPropagation, MountOverlay, BindRoot, MakeDevice, OpenConsole, ReadonlyMounts, ReadonlyRoot, EnterRoot,
)
"""Operations that mean the same whether the three are there already or come in between."""


class Outline(structs.Struct):
    """What a spec says of /proc, /dev and /sys."""

    mounts: list[oci.Mount] = []
    readonly_paths: list[str] = []
    masked_paths: list[str] = []


def outline(spec: oci.Spec, own_network: bool) -> Outline:
    """Of what can be made ahead. A sysfs shows the network namespace of whoever mounts it: only with one of its own."""
    assert spec.linux is not None
    mounts = [
        entry for entry in spec.mounts
        if _KINDS.get(entry.destination) == entry.type and (own_network or entry.type != "sysfs")
        and (entry.type != "tmpfs" or any(option.startswith("mode=") for option in entry.options))
    ]
    tops = tuple(f"{entry.destination}/" for entry in mounts if entry.destination in ("/proc", "/sys"))
    return Outline(
        mounts, [path for path in spec.linux.readonly_paths if path.startswith(tops)],
        [path for path in spec.linux.masked_paths if path.startswith(tops)],
    )


class Scaffold:
    """Mounts that wait. `operations` are those that made them, in the plan's order."""

    def __init__(self, wanted: Outline) -> None:
        """Make them, in a mount namespace of our own, whose mounts are nobody's peers any more (they still follow the
        host's). Raises OSError, InvalidArgument.
        """
        self.operations: list[Operation] = [mount_entries.operation(entry, None, True) for entry in wanted.mounts]
        places = {entry.destination for entry in wanted.mounts}
        if "/dev" in places:
            self.operations.append(PopulateDev())
        self.operations += [ReadonlyPath(path) for path in wanted.readonly_paths]
        self.operations += [MaskPath(path) for path in wanted.masked_paths]
        self.own_network = "/sys" in places
        mount.set_propagation("/", mount.MS_SLAVE | mount.MS_REC)
        self.stage = Stage(root=_root())
        for each in self.operations:
            each.apply(self.stage)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self.tops = {
            name: os.open(name, flags, dir_fd=self.stage.root) for name in _TOPS if f"/{name}" in places
        }

    def descriptors(self) -> list[int]:
        stage = self.stage
        held = [stage.root, stage.proc, stage.devpts, stage.null, stage.empty, *stage.readonly_later]
        return [fd for fd in [*held, *self.tops.values()] if fd >= 0]

    def into(self, plan: list[Operation]) -> list[Operation]:
        """The plan with the mounts moved in instead of made; as it is where it is another than what they are for."""
        ahead = 0
        others: list[Operation] = []
        at = -1
        for each in plan:
            if ahead < len(self.operations) and each == self.operations[ahead]:
                ahead += 1
                at = len(others) if at < 0 else at
            else:
                others.append(each)
        if at < 0 or ahead < len(self.operations) or not all(self._may_stay(each) for each in others):
            return plan
        return [*others[:at], MoveMounts(self), *others[at:]]

    def _may_stay(self, operation: Operation) -> bool:
        if isinstance(operation, (MountFilesystem, BindMount)):
            return not f"{operation.destination}/".startswith(tuple(f"/{name}/" for name in _TOPS))
        if isinstance(operation, MountCgroups):
            return operation.destination == "/sys/fs/cgroup"
        if isinstance(operation, (ReadonlyPath, MaskPath)):
            return not operation.path.startswith(tuple(f"/{name}/" for name in self.tops))
        return isinstance(operation, _ANYWHERE)


class MoveMounts:
    """Attach what was made ahead to its places in the root; each is checked as if it were mounted there."""

    def __init__(self, scaffold: Scaffold) -> None:
        self._scaffold = scaffold

    def describe(self) -> str:
        made = self._scaffold
        return f"move in {', '.join(f'/{name}' for name in made.tops)}, made ahead by {len(made.operations)} operations"

    def apply(self, stage: Stage) -> None:
        for name, fd in self._scaffold.tops.items():
            place = target.open_directory(stage.root, f"/{name}")
            try:
                target.check(place, f"/{name}", name == "proc")
                mount.attach(fd, place)
            finally:
                os.close(place)
        made = self._scaffold.stage
        stage.proc, stage.devpts, stage.null, stage.empty = made.proc, made.devpts, made.null, made.empty
        stage.readonly_later += made.readonly_later


def _root() -> int:
    """A directory to mount in, as a mount of its own."""
    top = mount.new("tmpfs", {"source": "tmpfs", "mode": "755"}, mount.ATTR_NOSUID | mount.ATTR_NODEV)
    place = os.open(_PLACE, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount.attach(top, place)
    finally:
        os.close(place)
    return top
