"""The operation that loads a seccomp filter, and what is checked of a policy before (config-linux.md, "Seccomp")."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.lean.structs import encode
from sampan.linux import seccomp
from sampan.runtime.operation import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci


@dataclass(frozen=True)
class LoadSeccomp:
    """Load the compiled filter (seccomp(2)). Needs CAP_SYS_ADMIN or no_new_privs at this moment.

    A filter that notifies (FLAG_NEW_LISTENER) has its listener handed to the runtime through `sync`, the number of a
    SEQPACKET socket, before anything else is done: nobody answers it until then. `with_rights`: it does not notify of
    sendmsg(2), see seccomp_agent.py.
    """

    bpf: bytes
    flags: int = 0
    sync: int = -1
    with_rights: bool = False

    def describe(self) -> str:
        return f"load the seccomp filter ({len(self.bpf) // 8} instructions)"

    def apply(self, stage: Stage) -> None:
        if self.flags & seccomp.FLAG_NEW_LISTENER:
            _load_and_hand_over(self.bpf, self.flags, self.sync, self.with_rights)
        else:
            seccomp.load(self.bpf, self.flags)


def load(filter: seccomp.Filter, policy: oci.Seccomp | None, sync: int) -> LoadSeccomp:
    """The operation for a compiled policy; `sync` as in LoadSeccomp."""
    return LoadSeccomp(filter.bpf, filter.flags, sync, policy is not None and not _asks_about(policy, "sendmsg"))


def _asks_about(policy: oci.Seccomp, call: str) -> bool:
    return any(call in rule.names for rule in policy.syscalls if rule.action == seccomp.NOTIFY)


def _load_and_hand_over(bpf: bytes, flags: int, sync: int, with_rights: bool) -> None:
    """Load a filter with FLAG_NEW_LISTENER, return when the runtime says that it has gone on.

    Raises OSError; the end of the socket ends the process, since whoever started it is gone.
    """
    listener = seccomp.load_and_tell(bpf, flags, sync, lambda number: encode({"seccomp": number}), with_rights)
    if listener < 0:
        os._exit(1)
    os.close(listener)


def check_policy(policy: oci.Seccomp) -> None:
    """Whether the listener of a policy that notifies can be handed over. Raises InvalidArgument.

    All else is checked when it is compiled: before anything is made, too.
    """
    if policy.default_action == seccomp.NOTIFY:
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used as default action")
    if policy.listener_metadata and not policy.listener_path:
        raise InvalidArgument("seccomp: listenerMetadata is set without listenerPath")
    if not seccomp.notifies(policy):
        return
    if not policy.listener_path.startswith("/"):
        raise InvalidArgument("seccomp: SCMP_ACT_NOTIFY needs listenerPath, the absolute path of an agent's socket")
    if _asks_about(policy, "write"):
        # the init stage tells the runtime of its listener by write(2), and no agent can answer before it did
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used for the write syscall")
