"""The birth of a container's first process: in new namespaces, below those that exist already.

Usually one clone3. When namespaces are joined and a user namespace is among the new or the joined ones, the order
counts: what the host owns can be joined only before entering the user namespace, what that one owns only after. Then a
process in between joins, gives birth to a sibling (CLONE_PARENT), says who it is, and ends.
"""

from __future__ import annotations

import os

from sampan.errors import Internal, StartFailed, from_message
from sampan.jobs import channel as wire
from sampan.lean.record import dataclass
from sampan.linux import clone, process
from sampan.runtime import credentials, offspring

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping


@dataclass
class Born:
    """The new process and our end of its socket."""

    pid: int
    pidfd: int
    sync: socket.socket

    def kill(self) -> None:
        """End it and take its exit."""
        self.sync.close()
        offspring.kill(self.pidfd)
        self.pidfd = -1
        os.waitpid(self.pid, 0)


def needs_stage(flags: int, joined: Mapping[str, int]) -> bool:
    """Whether a process in between must do the joining. A pid namespace joined by ourselves could not be left again by
    root of a user namespace (rootless Podman): our own belongs to the host's.
    """
    return "user" in joined or "pid" in joined or bool(flags & clone.NEWUSER and joined)


def directly(
    flags: int, cgroup: int | None, joined: Mapping[str, int], child: Callable[[socket.socket], None]
) -> Born:
    """One clone3 into `flags`, a joined pid namespace and a v2 cgroup. Closes `cgroup`."""
    return Born(*offspring.clone_child(flags, joined.get("pid", -1), cgroup, child))


def staged(flags: int, joined: Mapping[str, int], child: Callable[[socket.socket], None]) -> Born:
    """By a process in between, which joins all of `joined`. Raises StartFailed with what could not be joined."""

    def between(sync: socket.socket) -> None:
        offspring.guarded(sync, lambda: _join_and_clone(sync, flags, joined, child))

    others = process.children()
    pid, pidfd, sync = offspring.clone_child(0, -1, None, between)
    try:
        received = wire.receive(sync)
        if received is None:
            raise Internal("the process that joins the container's namespaces ended without a word")
        message = received[0]
        if "error" in message:
            raise from_message(message["error"])
        born = int(message["born"])
        return Born(born, offspring.claim(born, others | {pid}), sync)
    except BaseException:
        sync.close()
        raise
    finally:
        offspring.kill(pidfd)
        os.waitpid(pid, 0)


def _join_and_clone(
    sync: socket.socket, flags: int, joined: Mapping[str, int], child: Callable[[socket.socket], None]
) -> None:
    later = _join(joined, {kind for kind in joined if kind != "user"}, "user" in joined)
    if "user" in joined:
        _enter("user", joined["user"])
        credentials.become_root()
        _join(joined, later, False)
    pid, _ = clone.clone3(flags | clone.PARENT)
    if pid == 0:
        child(sync)
        os._exit(127)
    wire.send(sync, {"born": pid})
    os._exit(0)


def _join(joined: Mapping[str, int], kinds: set[str], again: bool) -> set[str]:
    """Join `kinds`; those the kernel does not let us join yet are returned when there will be another try."""
    later = set()
    for kind in sorted(kinds):
        try:
            _enter(kind, joined[kind])
        except StartFailed as error:
            if not again or not isinstance(error.__cause__, PermissionError):
                raise
            later.add(kind)
    return later


def _enter(kind: str, fd: int) -> None:
    try:
        clone.setns(fd, clone.NAMESPACES[kind][0])
    except OSError as error:
        raise StartFailed(f"failed to start the container: join the {kind} namespace: {error.strerror}") from error
