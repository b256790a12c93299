"""Where the engine listens, and a connection to it."""

from __future__ import annotations

import errno
import os
import socket

from sampan.cli.failure import Unreachable, UsageError

DEFAULT_SOCKET = "/run/sampan/sampan.sock"


class Address:
    """`unix` with a path, or `tcp` with host and port. `is_default`: the engine there may be started by the command."""

    __slots__ = ("family", "host", "is_default", "path", "port")

    def __init__(self, family: str, path: str = "", host: str = "", port: int = 0, is_default: bool = False) -> None:
        self.family = family
        self.path = path
        self.host = host
        self.port = port
        self.is_default = is_default

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.family == "unix" else f"tcp://{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`unix:///path`, `tcp://host:port` or `host:port`. Raises UsageError."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "tcp", text
    if scheme == "unix":
        if not rest.startswith("/"):
            raise UsageError(f'invalid address "{text}": a unix socket needs an absolute path, as in unix:///run/x.sock')
        return Address("unix", path=rest)
    if scheme == "tcp":
        host, _, port = rest.rstrip("/").rpartition(":")
        host = host.strip("[]")
        if host and port.isdigit() and 0 < int(port) < 65536:
            return Address("tcp", host=host, port=int(port))
    raise UsageError(f'invalid address "{text}": use unix:///path/to/socket or tcp://HOST:PORT')


def choose_address(option: str | None) -> Address:
    """-H, else SAMPAN_HOST, else DOCKER_HOST, else the default socket."""
    for text in (option, os.environ.get("SAMPAN_HOST"), os.environ.get("DOCKER_HOST")):
        if text:
            return parse_address(text)
    return Address("unix", path=DEFAULT_SOCKET, is_default=True)


def open_socket(address: Address) -> socket.socket:
    """A connected socket, or the OSError of connect(2)."""
    if address.family == "tcp":
        return socket.create_connection((address.host, address.port))
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(address.path)
    except OSError:
        sock.close()
        raise
    return sock


def connect(address: Address) -> socket.socket:
    """A connected socket; starts the engine when it is ours to start. Raises Unreachable with the next step."""
    try:
        return open_socket(address)
    except OSError as error:
        nobody = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
        if not (nobody and address.is_default and os.geteuid() == 0):
            raise unreachable(address, error) from None
    from sampan.cli.autostart import start_engine

    return start_engine(address)


def unreachable(address: Address, error: OSError) -> Unreachable:
    """One sentence with the next step for a failed connect."""
    if error.errno in (errno.EACCES, errno.EPERM):
        group = _group_of(address.path)
        hint = f"run as root or as a member of the group {group}" if group else "run as root"
        return Unreachable(f"permission denied on the engine's socket {address.path}: {hint}")
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        if address.is_default:
            return Unreachable(f"no engine listens at {address}: start one as root with `sampan serve`, or run as root")
        return Unreachable(
            f"cannot connect to the engine at {address}: nobody listens there; start one with "
            f"`sampan serve -H {address}`, or choose another address with -H or SAMPAN_HOST"
        )
    return Unreachable(f"cannot connect to the engine at {address}: {error.strerror or error}")


def _group_of(path: str) -> str:
    """The name of the group that may use the socket; "" when that would be root's, or cannot be seen."""
    try:
        gid = os.stat(path).st_gid
    except OSError:
        return ""
    if gid == 0:
        return ""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
