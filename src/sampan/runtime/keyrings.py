"""The operation that gives a container a session keyring of its own (session-keyring(7))."""

from __future__ import annotations

import errno
import os

from sampan.lean.record import dataclass
from sampan.linux import keyring
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class JoinSessionKeyring:
    """Leave the session keyring of whoever started us; join the container's, `_ses.ID`, made when it is not there.

    Whatever a process looks up, its session keyring is searched first: with ours it would find the host's keys. exec
    joins the same one, which it must be allowed to find: by its user's right, or everybody's when the container has a
    user namespace (`shared`), whose root is another user. First of all, in the host's user namespace.
    """

    container: str
    shared: bool = False

    def describe(self) -> str:
        return f"join session keyring {self.name()}"

    def name(self) -> str:
        """As runc and crun call it."""
        return f"_ses.{self.container}"

    def apply(self, stage: Stage) -> None:
        try:
            serial = keyring.join_session(self.name())
            owner, permissions = keyring.describe(serial)
            if owner != os.getuid():  # any user of the host can make one of that name for us to find
                keyring.join_session("")
                stage.warnings.append(f"user {owner} has a keyring {self.name()}: the container got one without a name")
                return
            wanted = keyring.USER_SEARCH | (keyring.OTHER_SEARCH if self.shared else 0)
            keyring.set_permissions(serial, permissions | wanted)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
                error.filename = self.name()
                raise
            # Other container engines forbid keyctl to what runs in them. File access does not hang on keyrings.
            stage.warnings.append(f"the container got no session keyring of its own: keyctl: {error.strerror}")
