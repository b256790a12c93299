"""How the listener of a seccomp filter gets to the agent that answers it (config-linux.md, "Seccomp", listenerPath).

    init stage                              runtime                                agent
      │ seccomp(2) → listener, number N       │
      │ {"seccomp": N} [the listener] ───────▶│ or takes it by pidfd_getfd(2)
      │                                       │ connect, process state + fd ──────────▶│ answers from now on
      │ read ◀──────────────────── {"agent"} ─┤
      │ close N                               │ closes its own

Between the first two steps the init stage may make no call that the filter could catch: nobody would ever answer. So
the message is made before, for the number that the listener will get. It goes by sendmsg(2), with the descriptor; where
a policy notifies of sendmsg, by write(2), and the runtime takes the descriptor out of the process, for which it needs
the right to trace it. No policy may therefore notify of write.
"""

from __future__ import annotations

import _socket
import os
import struct

from sampan.errors import StartFailed
from sampan.jobs import channel as wire
from sampan.lean.structs import encode
from sampan.linux import process, unix_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from sampan.oci import runtime as oci



def take(pidfd: int, number: int) -> int:
    """The runtime's part: descriptor `number` of a process, close-on-exec; the caller closes it.

    Raises StartFailed: EPERM unless we may trace the process (pidfd_getfd(2)).
    """
    try:
        return process.take_descriptor(pidfd, number)
    except OSError as error:
        raise StartFailed(f"cannot take the seccomp listener from the init stage: {error.strerror}") from error


def hand_over(
    sync: socket.socket, number: int, given: list[int], pidfd: int, pid: int, policy: oci.Seccomp,
    state: Mapping[str, object],
) -> None:
    """The runtime's part as a whole, once the init stage `pid` has said {"seccomp": number} on `sync`: `send`, and the
    answer it waits for. `given` are the descriptors that came with it: one or none; they are closed. `state` is the
    container's. Raises StartFailed, OSError; then close `sync`, and the init stage ends.
    """
    listener = given[0] if given else take(pidfd, number)
    try:
        send(policy.listener_path, listener, pid, policy.listener_metadata, state)
    finally:
        os.close(listener)
    wire.send(sync, {"agent": True})


def send(listener_path: str, fd: int, pid: int, metadata: str, state: Mapping[str, object]) -> None:
    """Give a listener to the agent at `listener_path`, with the container process state that the spec asks for.

    `pid` is the process's as the runtime sees it, `state` the container's as `state` prints it. The descriptor stays
    the caller's. Raises StartFailed naming the socket.
    """
    data = encode({
        "ociVersion": str(state.get("ociVersion", "")), "fds": ["seccompFd"], "pid": pid, "metadata": metadata,
        "state": dict(state),
    })
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    what = "failed to connect with seccomp agent"
    try:
        unix_socket.connect(connection, listener_path)
        what = "cannot hand the seccomp listener to the agent"
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))
        sent = connection.sendmsg([data], [rights], _socket.MSG_NOSIGNAL)
        if sent < len(data):  # an agent may close once it has read all: then not even nothing can be sent
            connection.sendall(data[sent:], _socket.MSG_NOSIGNAL)
    except OSError as error:
        raise StartFailed(
            f"{what} at {listener_path}: {error.strerror or error}"
        ) from error
    finally:
        connection.close()
