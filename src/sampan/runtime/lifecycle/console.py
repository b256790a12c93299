"""A container's terminal handed over: to the socket of whoever takes it (--console-socket)."""

from __future__ import annotations

import _socket
import struct

from sampan.linux import unix_socket

_NAME = b"/dev/ptmx"  # what runc sends along with the descriptor; containerd and conmon read it and look no further


def send(path: str, master: int) -> None:
    """Give the near end of a terminal to whoever listens at `path`: one message, SCM_RIGHTS. It stays open here.

    Raises OSError with the path.
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        unix_socket.connect(sock, path)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", master))
        sock.sendmsg([_NAME], [rights], _socket.MSG_NOSIGNAL)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        sock.close()
