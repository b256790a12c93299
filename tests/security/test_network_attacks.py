"""Attacks on the network by containers and neighbours; each is shown to work when its defence is taken away."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

import netlab
from netlab import Neighbour, greet, inside, listen, network, reaches, sysctl, tcp
from sampan.linux import rtnetlink
from sampan.linux.nftables import Nft
from sampan.linux.rtnetlink import RouteSocket
from sampan.network import ruleset
from sampan.network.endpoint import PortMapping


@pytest.fixture
def beside() -> Iterator[Neighbour]:
    with netlab.neighbour() as neighbour:
        yield neighbour


def test_hosts_loopback_is_closed_to_containers_cve_2020_8558() -> None:
    """Replies to ports on 127.0.0.1 need route_localnet on the bridge; a container must not use it the other way."""

    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            gateway_mac = _mac_of(net.bridge)
            with UdpService("127.0.0.1") as private, UdpService("0.0.0.0") as trusting:
                attack = _frame(gateway_mac, lease.endpoint.mac, lease.endpoint.ip, "127.0.0.1", private)
                spoofed = _frame(gateway_mac, lease.endpoint.mac, "127.0.0.1", net.gateway, trusting)
                _send(lease.netns_fd, attack)
                _send(lease.netns_fd, spoofed)
                assert not _received(private) and not _received(trusting)
                nft = Nft()
                nft.run(f"flush chain ip {ruleset.table_name(net.bridge)} guard")
                nft.close()
                _send(lease.netns_fd, attack)
                assert _received(private), "the attack of this test does not work: it proves nothing"
            lease.close()

    asyncio.run(run())


def test_port_on_loopback_is_closed_to_neighbours(beside: Neighbour) -> None:
    """-p 127.0.0.1:…: a neighbour may address a packet to 127.0.0.1 all the same."""

    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("udp", "127.0.0.1", 0, 53)])
            attack = _frame(beside.mac, "02:00:00:00:00:09", beside.address, "127.0.0.1", port.host_port)
            with listen(lease.netns_fd, 53, socket.SOCK_DGRAM) as server:
                _send(beside.namespace, attack)
                assert not _received(server)
                nft = Nft()
                table = ruleset.table_name(net.bridge)
                nft.run(f"flush chain ip {table} prerouting")
                nft.run(
                    f"add rule ip {table} prerouting"
                    " dnat ip to ip daddr . meta l4proto . th dport map @published_at"
                )
                nft.close()
                _send(beside.namespace, attack)
                assert _received(server), "the attack of this test does not work: it proves nothing"
            lease.close()

    asyncio.run(run())


def test_what_is_not_published_is_closed_to_neighbours(beside: Neighbour) -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            with listen(lease.netns_fd, 80) as server, listen(lease.netns_fd, 81):
                assert greet(server, tcp(beside.namespace), (beside.host_address, port.host_port)) == beside.address
                assert not reaches(tcp(beside.namespace), (lease.endpoint.ip, 81))
                assert not reaches(tcp(beside.namespace), (lease.endpoint.ip, 80))
            lease.close()

    asyncio.run(run())


def test_outside_source_address_is_kept_cve_2021_20199(beside: Neighbour) -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            with listen(lease.netns_fd, 80) as server:
                assert greet(server, tcp(beside.namespace), (beside.host_address, port.host_port)) == beside.address
                assert greet(server, tcp(), ("127.0.0.1", port.host_port)) != "127.0.0.1"
            lease.close()

    asyncio.run(run())


def test_no_ipv6_from_the_bridge_cve_2020_13401_2024_32473() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            with inside(lease.netns_fd):
                assert sysctl("ipv6/conf/eth0/disable_ipv6") == "1"
                assert sysctl("ipv6/conf/eth0/accept_ra") == "0"
                devices = [line.split()[-1] for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines()]
                assert devices in (["lo"], [])
            lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
            assert not {net.bridge, lease.endpoint.host_ifname} & {line.split()[-1] for line in lines}
            lease.close()

    asyncio.run(run())


def test_host_does_not_become_a_router_for_others() -> None:
    """We need forwarding; two networks that the host kept apart before stay apart."""

    async def run() -> None:
        netlab.set_sysctl("ipv4/ip_forward", "0")
        with netlab.neighbour() as one, netlab.neighbour() as two, listen(two.namespace, 80):
            async with network() as net:
                assert not reaches(tcp(one.namespace), (two.address, 80))
                lease = await net.acquire()
                assert reaches(tcp(lease.netns_fd), (two.address, 80))
                lease.close()
            netlab.set_sysctl("ipv4/ip_forward", "1")
            assert reaches(tcp(one.namespace), (two.address, 80))
            netlab.set_sysctl("ipv4/ip_forward", "0")

    asyncio.run(run())


def test_no_descriptor_of_the_engine_reaches_the_maker() -> None:
    async def run() -> None:
        secret = os.open("/", os.O_RDONLY)
        os.set_inheritable(secret, True)
        async with network() as net:
            (await net.acquire()).close()
            targets = [os.readlink(entry) for entry in Path(f"/proc/{net._maker.pid}/fd").iterdir()]
            assert "/" not in targets
        os.close(secret)

    asyncio.run(run())


class UdpService:
    """A UDP service of the host on one address; use its port as a number, `_received` asks it."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 0))
        self.port: int = self.sock.getsockname()[1]

    def __enter__(self) -> UdpService:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def _received(service: UdpService | socket.socket) -> bool:
    sock = service if isinstance(service, socket.socket) else service.sock
    sock.settimeout(netlab.REFUSED)
    try:
        sock.recv(100)
    except TimeoutError:
        return False
    return True


def _frame(to_mac: str, from_mac: str, source: str, destination: str, port: int | UdpService) -> bytes:
    """An Ethernet frame with a UDP packet, addresses as one likes."""
    number = port if isinstance(port, int) else port.port
    udp = struct.pack(">HHHH", 40000, number, 8 + 6, 0) + b"attack"
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(source), socket.inet_aton(destination),
    )
    total = sum(struct.unpack(">10H", header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", 0xFFFF - total) + header[12:]
    return rtnetlink.check_mac(to_mac) + rtnetlink.check_mac(from_mac) + b"\x08\x00" + header + udp


def _send(namespace: int, frame: bytes) -> None:
    with inside(namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        with inside(namespace):
            sock.bind(("eth0", 0))
        sock.send(frame)


def _mac_of(device: str) -> str:
    with RouteSocket() as routes:
        return next(link.mac for link in routes.links() if link.name == device)
