"""Who the init stage itself is while it works in a container's user namespace."""

from __future__ import annotations

import os

from sampan.lean.record import dataclass
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class BecomeNamespaceRoot:
    """Be uid 0 and gid 0 of the user namespace: what we make belongs to its root then (user_namespaces(7)).

    Comes behind writes to our own /proc/self: they are lost with the change of uid ("dumpable", proc(5)).
    """

    def describe(self) -> str:
        return "become root of the user namespace"

    def apply(self, stage: Stage) -> None:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
