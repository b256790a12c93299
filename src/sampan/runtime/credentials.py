"""Who the init stage itself is while it works in a container's user namespace."""

from __future__ import annotations

import errno
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
        become_root()


def become_root() -> None:
    """Raises OSError, with a reason where that namespace has no root."""
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        reason = "is not mapped: a container with a user namespace needs a root of its own"
        raise OSError(error.errno, reason, "id 0") from error
