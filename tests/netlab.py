"""A small lab for network tests: bridges of their own, neighbours beside the host, sockets inside namespaces.

A socket belongs for ever to the network namespace it was made in, so one process can be all parties at once.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sampan.linux import netns, rtnetlink
from sampan.linux.rtnetlink import RouteSocket
from sampan.network.bridge import BridgeNetwork

PATIENCE = 5.0  # seconds until a test gives up waiting for a packet
REFUSED = 0.3  # seconds to see that nothing comes


def bridge_name() -> str:
    return f"spt{os.getpid() % 100000}x{random.randrange(4096):x}"


def bip() -> str:
    return f"10.213.{random.randrange(1, 255)}.1/24"


@asynccontextmanager
async def network(name: str = "", address: str = "", pool_size: int = 2) -> AsyncIterator[BridgeNetwork]:
    """A started bridge network, removed afterwards."""
    made = BridgeNetwork(name or bridge_name(), address or bip(), pool_size)
    await made.start()
    try:
        yield made
    finally:
        await made.close(keep=False)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Sockets made in the block belong to the namespace."""
    home = netns.current()
    try:
        with netns.entered(namespace, home):
            yield
    finally:
        os.close(home)


@contextmanager
def new_namespace() -> Iterator[int]:
    """In a new, empty network namespace; yields its descriptor."""
    home = netns.current()
    try:
        with netns.created(home) as namespace:
            try:
                yield namespace
            finally:
                os.close(namespace)
    finally:
        os.close(home)


def listen(namespace: int, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A server socket on all addresses of the namespace."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, kind)
    sock.settimeout(PATIENCE)
    sock.bind(("0.0.0.0", port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def greet(server: socket.socket, client: socket.socket, target: tuple[str, int]) -> str:
    """Connect, send a word each way; returns the address the server saw. Closes what was connected."""
    client.settimeout(PATIENCE)
    with client:
        client.connect(target)
        accepted, (seen, _) = server.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            client.sendall(b"ping")
            assert accepted.recv(4) == b"ping"
            accepted.sendall(b"pong")
            assert client.recv(4) == b"pong"
    return str(seen)


def reaches(client: socket.socket, target: tuple[str, int]) -> bool:
    """Whether a TCP connection comes about; closes the client."""
    client.settimeout(REFUSED)
    with client:
        try:
            client.connect(target)
        except OSError:
            return False
        return True


def tcp(namespace: int | None = None) -> socket.socket:
    """A TCP socket of the host or of a namespace."""
    if namespace is None:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with inside(namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


@dataclass(frozen=True)
class Neighbour:
    """A machine next to the host: a namespace with `address`, that sees the host as `host_address` on `device`."""

    namespace: int
    address: str
    host_address: str
    device: str
    mac: str


@contextmanager
def neighbour() -> Iterator[Neighbour]:
    """Cable a neighbour to the host; it has a default route by the host, as an attacker would give himself."""
    home = netns.current()
    number, device = random.randrange(1, 255), f"lan{random.randrange(1 << 24):x}"
    ours, theirs = f"10.214.{number}.1", f"10.214.{number}.2"
    with netns.created(home) as namespace:
        there = RouteSocket()
    with RouteSocket() as host, there:
        host.run(rtnetlink.create_veth(device, "eth0", namespace, 1500))
        index, eth0 = host.index(device), there.index("eth0")
        host.run(rtnetlink.set_link(index, up=True), rtnetlink.add_address(index, ours, 24))
        there.run(
            rtnetlink.set_link(1, up=True), rtnetlink.set_link(eth0, up=True),
            rtnetlink.add_address(eth0, theirs, 24), rtnetlink.add_default_route(ours),
        )
        try:
            mac = next(link.mac for link in host.links() if link.index == index)
            yield Neighbour(namespace, theirs, ours, device, mac)
        finally:
            host.run(rtnetlink.delete_link(index))
            os.close(namespace)
            os.close(home)


def sysctl(name: str) -> str:
    return Path("/proc/sys/net", name).read_text().strip()


def set_sysctl(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)
