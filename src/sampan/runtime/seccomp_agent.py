"""How the listener of a seccomp filter gets to the agent that answers it (config-linux.md, "Seccomp", listenerPath).

    init stage                              runtime                                agent
      │ seccomp(2) → listener, number N       │
      │ write {"seccomp": N} ────────────────▶│ pidfd_getfd(2): the listener
      │                                       │ connect, process state + fd ──────────▶│ answers from now on
      │ read ◀──────────────────── {"agent"} ─┤
      │ close N                               │ closes its own

Between the first two steps the init stage may make no call that the filter could catch: nobody would ever answer. So
the message is made before, for the number that the listener will get, and goes by write(2) alone, which a policy
therefore may not notify of; sendmsg(2), which could have carried the descriptor, it may.
"""

from __future__ import annotations

import _socket
import errno
import os

from sampan.errors import StartFailed
from sampan.jobs import channel as wire
from sampan.lean import ctypes
from sampan.lean.structs import encode
from sampan.linux import libc, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from sampan.oci import runtime as oci

_write = libc.lib.write
_write.restype = ctypes.c_ssize_t
_read = libc.lib.read
_read.restype = ctypes.c_ssize_t
_NR_PIDFD_GETFD = 438
_SUN_PATH = 107  # bytes of a socket's path that sockaddr_un has room for (unix(7))


def load_and_hand_over(bpf: bytes, flags: int, sync: int) -> None:
    """The init stage's part: load a filter with FLAG_NEW_LISTENER, return when the runtime says that it went on.

    `sync` is the number of a connected SEQPACKET socket. Raises OSError; the end of the socket ends the process, since
    whoever started it is gone.
    """
    number = _next_descriptor()
    message = ctypes.create_string_buffer(encode({"seccomp": number}))
    size = ctypes.c_size_t(len(message) - 1)
    to, answer = ctypes.c_int(sync), ctypes.create_string_buffer(64)
    listener = seccomp.load(bpf, flags)
    written = _write(to, message, size)
    if listener != number or written < 0:
        raise OSError(errno.EPROTO, f"the seccomp listener could not be announced (descriptor {listener})")
    if _read(to, answer, ctypes.c_size_t(len(answer))) <= 0:
        os._exit(1)
    os.close(listener)


def _next_descriptor() -> int:
    """The number that the next descriptor of this process gets: the lowest that is free (open(2))."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.close(read_end)
    os.close(write_end)
    return min(read_end, write_end)


def take(pidfd: int, number: int) -> int:
    """The runtime's part: descriptor `number` of a process, close-on-exec; the caller closes it.

    Raises OSError: EPERM unless we may trace the process (pidfd_getfd(2)).
    """
    return libc.syscall(_NR_PIDFD_GETFD, ctypes.c_int(pidfd), ctypes.c_int(number), ctypes.c_uint(0))


def hand_over(
    sync: socket.socket, number: int, pidfd: int, pid: int, policy: oci.Seccomp, state: Mapping[str, object]
) -> None:
    """The runtime's part as a whole, once the init stage `pid` has said {"seccomp": number} on `sync`: `take`, `send`,
    the answer it waits for. `state` is the container's. Raises StartFailed, OSError; then close `sync`, and it ends.
    """
    listener = take(pidfd, number)
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
    try:
        _connect(connection, listener_path)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little" if _LITTLE else "big"))
        sent = connection.sendmsg([data], [rights], _socket.MSG_NOSIGNAL)
        connection.sendall(data[sent:], _socket.MSG_NOSIGNAL)
    except OSError as error:
        raise StartFailed(
            f"cannot hand the seccomp listener to the agent at {listener_path}: {error.strerror or error}"
        ) from error
    finally:
        connection.close()


_LITTLE = memoryview(b"\1\0").cast("H")[0] == 1


def _connect(connection: _socket.socket, path: str) -> None:
    """connect(2), by way of its directory's descriptor where the path is longer than a socket's address may be."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        connection.connect(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
