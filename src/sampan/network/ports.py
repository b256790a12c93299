"""Host ports: which are taken, by whom, and which is free.

nftables would take a port away from a listening host process without a word, so a published port is also *bound* on
the host, by a socket that never accepts anything (the kernel rewrites the packets before any socket sees them). That
makes the check and the reservation one step, and tells every later comer (a host process, dockerd, another Sampan) in
the kernel's own words that the port is taken. The sockets die with the engine while the rules live on: containers
keep their ports, and the next engine binds them again.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sampan.errors import Conflict, InvalidArgument, Unavailable
from sampan.network.endpoint import ANY, PortMapping

_PROTOCOLS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_NO_PROTOCOL = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)


class PortTable:
    """The published ports of one bridge."""

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[PortMapping, socket.socket | None]]] = {}
        self._next = 0

    def of(self, endpoint_id: str) -> list[PortMapping]:
        """The ports of one endpoint, as they were chosen."""
        return [port for port, _ in self._held.get(endpoint_id, [])]

    def reserve(self, endpoint_id: str, ports: Sequence[PortMapping]) -> list[PortMapping]:
        """Take ports, all or none, and return them with host addresses and ports filled in.

        Raises Conflict when one is taken, InvalidArgument when one cannot be.
        """
        held: list[tuple[PortMapping, socket.socket | None]] = []
        checked = [check(port) for port in ports]
        ephemeral = ephemeral_range() if any(not port.host_port for port in checked) else (0, 0)
        try:
            for port in checked:
                held.append(self._take(port, ephemeral))
        except BaseException:
            _close(held)
            raise
        self._held.setdefault(endpoint_id, []).extend(held)
        return [port for port, _ in held]

    def adopt(self, endpoint_id: str, ports: Iterable[PortMapping]) -> list[str]:
        """Take ports that are in use by a living container already; returns a sentence for each that somebody else
        bound while no engine was there. They are published all the same."""
        warnings = []
        for port in map(check, ports):
            sock = None
            try:
                sock = _bind(port)
            except (Conflict, InvalidArgument) as error:
                warnings.append(f"{error}: a process of the host shares the port with a running container")
            self._held.setdefault(endpoint_id, []).append((port, sock))
        return warnings

    def release(self, endpoint_id: str) -> list[PortMapping]:
        """Free an endpoint's ports, and return them. Idempotent."""
        held = self._held.pop(endpoint_id, [])
        _close(held)
        return [port for port, _ in held]

    def close(self) -> None:
        """Free all. Idempotent."""
        for endpoint_id in list(self._held):
            self.release(endpoint_id)

    def _take(self, port: PortMapping, ephemeral: tuple[int, int]) -> tuple[PortMapping, socket.socket | None]:
        if port.host_port and not port.host_port_end:
            return port, _bind(port)
        for number in self._candidates(port, ephemeral):
            chosen = replace(port, host_port=number, host_port_end=0)
            try:
                return chosen, _bind(chosen)
            except Conflict:
                continue
        asked = f"{port.host_port}-{port.host_port_end}" if port.host_port else "the ephemeral range"
        raise Conflict(f"Bind for {port.host_ip} failed: all ports of {asked} are allocated")

    def _candidates(self, port: PortMapping, ephemeral: tuple[int, int]) -> Iterator[int]:
        """The range asked for from its start; the ephemeral range from where the last search ended, so that a port
        just given up is not somebody else's at once."""
        if port.host_port:
            yield from range(port.host_port, port.host_port_end + 1)
            return
        first, last = ephemeral
        start = self._next if first <= self._next <= last else first
        for number in itertools.chain(range(start, last + 1), range(first, start)):
            self._next = number + 1
            yield number


def ephemeral_range() -> tuple[int, int]:
    """The host's own range (ip(7), ip_local_port_range)."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(first), int(last)


def check(port: PortMapping) -> PortMapping:
    """The mapping with its host address in normal form. Raises InvalidArgument on what can never be published."""
    if port.proto not in _PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {port.proto}")
    last = port.host_port_end or port.host_port
    if not (0 <= port.host_port <= last <= 65535 and 1 <= port.container_port <= 65535):
        raise InvalidArgument(f"invalid port mapping {port.host_port}:{port.container_port}/{port.proto}")
    try:
        address = ipaddress.ip_address(port.host_ip or ANY)
    except ValueError as error:
        raise InvalidArgument(f"invalid host address {port.host_ip!r} of a published port") from error
    if address.version != 4:
        raise InvalidArgument(f"ports cannot be published on IPv6 addresses ({address}): Sampan's bridge is IPv4 only")
    return replace(port, host_ip=str(address))


def _bind(port: PortMapping) -> socket.socket | None:
    """A socket bound to the port; None when the host lacks the protocol, so that nobody else can have it either."""
    kind, number = _PROTOCOLS[port.proto]
    try:
        sock = socket.socket(socket.AF_INET, kind, number)
    except OSError as error:
        if error.errno in _NO_PROTOCOL:
            return None
        raise
    try:
        _bind_exclusively(sock, port)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_exclusively(sock: socket.socket, port: PortMapping) -> None:
    """Without SO_REUSEADDR nobody can bind beside us. But connections of a server that has just ended (TIME_WAIT)
    would then refuse us for a minute; with it they don't, and listening is what keeps others out."""
    try:
        sock.bind((port.host_ip, port.host_port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or port.proto != "tcp":
            raise _refusal(error, port) from error
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.host_ip, port.host_port))
            sock.listen(0)
        except OSError as again:
            raise _refusal(again, port) from again


def _refusal(error: OSError, port: PortMapping) -> Exception:
    where = f"Bind for {port.host_ip}:{port.host_port} failed"
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"{where}: port is already allocated")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidArgument(f"{where}: the host does not have this address")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(f"{where}: too many open files")
    return OSError(error.errno, f"{where}: {error.strerror}")


def _close(held: Iterable[tuple[PortMapping, socket.socket | None]]) -> None:
    for _, sock in held:
        if sock is not None:
            sock.close()
