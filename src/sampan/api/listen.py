"""The sockets an engine listens on: a path with the right owner from the first moment, or systemd's."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from sampan.errors import Conflict, InvalidArgument

GROUPS = ("docker", "sampan")
_FIRST_FD = 3  # sd_listen_fds(3)
_MAX_FDS = 64
_BACKLOG = 4096


@dataclass(frozen=True)
class Listener:
    """A listening socket; `path` and `identity` name the file that goes with it, if it is ours."""

    sock: socket.socket
    path: Path | None = None
    identity: tuple[int, int, int] = (0, 0, 0)

    def close(self) -> None:
        """Stop listening; remove the file unless somebody else has put his own there meanwhile."""
        self.sock.close()
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                if _identity(self.path) == self.identity:
                    self.path.unlink()


def unix_socket(path: str | Path) -> Listener:
    """Listen on `path`: 0660 root:docker (or :sampan), root alone when there is no such group (CVE-2014-3499).

    A socket file that nobody answers on is replaced. Raises Conflict when somebody does, InvalidArgument for a
    path that cannot be a socket.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _bind(listener, path)
        listener.listen(_BACKLOG)
        return Listener(listener, path, _identity(path))
    except BaseException:
        listener.close()
        raise


def _identity(path: Path) -> tuple[int, int, int]:
    """The time belongs to it: a file system gives a removed file's inode number to the next one."""
    status = path.lstat()
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _bind(listener: socket.socket, path: Path) -> None:
    mask = os.umask(0o177)  # no moment in which others could connect
    try:
        listener.bind(str(path))
    except OSError as error:
        if error.errno is None:  # CPython's own check of sun_path's 108 bytes
            raise InvalidArgument(f"the socket's path is too long (107 bytes at most): {path}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.umask(mask)
    if (group := group_id()) is not None:
        os.chown(path, -1, group, follow_symlinks=False)
        path.chmod(0o660)


def group_id() -> int | None:
    """The group that may use the engine; being in it is being root. None for an unprivileged engine."""
    if os.geteuid() != 0:
        return None
    for name in GROUPS:
        with contextlib.suppress(KeyError):
            return grp.getgrnam(name).gr_gid
    return None


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise InvalidArgument(f"cannot listen on {path}: it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise Conflict(f"cannot listen on {path}: {error.strerror or error}") from error
            path.unlink(missing_ok=True)
            return
    raise Conflict(f"cannot listen on {path}: another engine answers there")


def inherited() -> list[Listener]:
    """The sockets systemd passed (LISTEN_PID, LISTEN_FDS of sd_listen_fds(3)); the variables are taken away."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit() or int(count) > _MAX_FDS:
        return []
    sockets = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise InvalidArgument(f"the inherited descriptor {fd} is not a unix stream socket")
        sock.setblocking(False)
        sockets.append(Listener(sock))
    return sockets
