"""What the launcher's spares know of the starts before theirs, so that more can be done ahead of the next."""

from __future__ import annotations

import mmap

from sampan.errors import InvalidArgument
from sampan.lean import structs
from sampan.lean.record import dataclass
from sampan.linux.memory import WorkingSet
from sampan.oci import runtime as oci
from sampan.runtime.kernel import LoopbackUp, NewNetworkNamespace
from sampan.runtime.operation import Operation, Stage
from sampan.runtime.scaffold import Outline, Scaffold, outline

_LESSONS = 3  # starts that teach which pages a start writes to
_OUTLINE = 32 << 10


class Ahead:
    """Made by the launcher, shared by all that it forks. Holds guesses: who is wrong is slower, never wrong.

    `pages` are those that a start writes to. (A shim's are not had ahead: what it does not write to it shall not have.)
    """

    def __init__(self) -> None:
        self.pages = WorkingSet(_LESSONS)
        self._shared = mmap.mmap(-1, _OUTLINE)  # MAP_SHARED: own_network, the outline's length, its JSON

    @property
    def own_network(self) -> bool:
        """Whether the last container wanted a network namespace with nothing in it but lo: the next may, too."""
        return self._shared[0] == 1

    @own_network.setter
    def own_network(self, wanted: bool) -> None:
        self._shared[0] = wanted

    @property
    def outline(self) -> Outline | None:
        """What the last container said of its mounts."""
        size = int.from_bytes(self._shared[1:5], "little")
        try:
            return structs.decode(self._shared[5 : 5 + size], type=Outline) if size else None
        except structs.DecodeError:
            return None  # it is being written just now

    @outline.setter
    def outline(self, wanted: Outline) -> None:
        data = structs.encode(wanted)
        if len(data) + 5 > _OUTLINE or data == self._shared[5 : 5 + len(data)]:
            return
        self._shared[1:5] = bytes(4)
        self._shared[5 : 5 + len(data)] = data
        self._shared[1:5] = len(data).to_bytes(4, "little")


@dataclass
class Spare:
    """What a process that waits to become a container, in the namespaces of newborn.USUAL, has made ahead.

    `networked`: it is in a network namespace of its own.
    """

    ahead: Ahead
    networked: bool = False
    scaffold: Scaffold | None = None

    @classmethod
    def make(cls, ahead: Ahead) -> Spare:
        """By the process itself."""
        made = cls(ahead, ahead.own_network)
        if made.networked:
            NewNetworkNamespace().apply(Stage())
            LoopbackUp().apply(Stage())
        wanted = ahead.outline
        if wanted is not None and wanted.mounts:
            try:
                made.scaffold = Scaffold(wanted)
            except (OSError, InvalidArgument):
                pass  # the container that wants them hears why not
        return made

    def fits(self, own_network: bool, network: bool) -> bool:
        """Whether a container can be made of it that wants a new network namespace, or joins one (`network`)."""
        return own_network or network or not self.networked

    def descriptors(self) -> list[int]:
        return self.scaffold.descriptors() if self.scaffold is not None else []

    def finish(self, plan: list[Operation], spec: oci.Spec, joins_network: bool) -> list[Operation]:
        """The plan without what is there already; the next spare learns from it what may be wanted."""
        own_network = not joins_network and spec.linux is not None and any(
            namespace.type == "network" for namespace in spec.linux.namespaces
        )
        self.ahead.own_network = own_network
        if self.networked and own_network:
            plan = [each for each in plan if not isinstance(each, (NewNetworkNamespace, LoopbackUp))]
        moved = plan
        if self.scaffold is not None and (not self.scaffold.own_network or (self.networked and own_network)):
            moved = self.scaffold.into(plan)
        if moved is plan:  # else it is what was learned before
            self.ahead.outline = outline(spec, own_network)
        return moved
