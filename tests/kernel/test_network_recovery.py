"""Kill the engine, kill the maker, wipe the firewall: containers keep their network."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import netlab
from netlab import greet, listen, network, tcp
from sampan.linux.nftables import Nft, RulesetWatch
from sampan.linux.rtnetlink import LinkWatch, RouteSocket
from sampan.network import ruleset
from sampan.network.bridge import BridgeNetwork
from sampan.network.endpoint import Endpoint, PortMapping

# An engine with one container (whose namespace it hands over), waiting to be killed.
ENGINE = """
import asyncio, dataclasses, json, socket, sys
from sampan.network.bridge import BridgeNetwork
from sampan.network.endpoint import PortMapping

async def main(name, bip, handover):
    net = BridgeNetwork(name, bip, pool_size=3)
    await net.start()
    lease = await net.acquire()
    ports = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
    abandoned = await net.acquire()
    net.publish(abandoned.endpoint, [PortMapping("tcp", "", 0, 80)])
    said = {
        "endpoint": dataclasses.asdict(lease.endpoint), "ports": [dataclasses.asdict(port) for port in ports],
        "maker": net._maker.pid,
    }
    socket.send_fds(handover, [json.dumps(said).encode()], [lease.netns_fd])
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], socket.socket(fileno=int(sys.argv[3]))))
"""


@dataclass
class Orphan:
    """A container whose engine was killed."""

    bridge: str
    bip: str
    namespace: int
    endpoint: Endpoint
    ports: list[PortMapping]


@contextmanager
def orphan() -> Iterator[Orphan]:
    bridge, bip = netlab.bridge_name(), netlab.bip()
    ours, theirs = socket.socketpair()
    ours.settimeout(netlab.PATIENCE)
    with ours, theirs:
        command = [sys.executable, "-I", "-c", ENGINE, bridge, bip, str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as engine:
            try:
                data, (namespace, *_), _, _ = socket.recv_fds(ours, 1 << 16, 4)
                said = json.loads(data)
                maker = os.pidfd_open(said["maker"])
            finally:
                engine.kill()
    _wait_for_end(maker)  # it goes when its engine goes
    endpoint, ports = Endpoint(**said["endpoint"]), [PortMapping(**port) for port in said["ports"]]
    yield Orphan(bridge, bip, namespace, endpoint, ports)
    os.close(namespace)


def test_engine_killed_and_back() -> None:
    async def run(left: Orphan) -> None:
        port = left.ports[0]
        with listen(left.namespace, 80) as server:
            greet(server, tcp(), ("127.0.0.1", port.host_port))  # without any engine
            net = BridgeNetwork(left.bridge, left.bip, pool_size=2)
            with _knocking(server, port.host_port) as failures:
                await net.start([(left.endpoint, left.ports)])
                leases = [await net.acquire() for _ in range(3)]
            assert failures == []
            greet(server, tcp(), ("127.0.0.1", port.host_port))
            assert left.endpoint.ip not in [lease.endpoint.ip for lease in leases]
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("0.0.0.0", port.host_port)).close()
            kept = {left.endpoint.host_ifname, *(lease.endpoint.host_ifname for lease in leases)}
            assert kept <= _devices(left.bridge) and len(_devices(left.bridge)) <= 3 + 2 + 1
            listed = Nft().query(f"list map ip {ruleset.table_name(left.bridge)} published")
            assert len(listed[-1]["map"]["elem"]) == 1, "a port of a dead container stayed"
            for lease in leases:
                lease.close()
            await net.close(keep=False)

    with orphan() as left:
        asyncio.run(run(left))


def test_closed_while_containers_run() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            ports = net.publish(lease.endpoint, [PortMapping("tcp", "127.0.0.1", 0, 80)])
            await net.close(keep=True)
            with listen(lease.netns_fd, 80) as server:
                greet(server, tcp(), ("127.0.0.1", ports[0].host_port))
                await net.start([(lease.endpoint, ports)])
                greet(server, tcp(), ("127.0.0.1", ports[0].host_port))
            net.release(lease.endpoint)
            lease.close()

    asyncio.run(run())


def test_port_taken_while_no_engine_was_there_is_told() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            ports = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            await net.close(keep=True)
            with socket.create_server(("0.0.0.0", ports[0].host_port)):
                await net.start([(lease.endpoint, ports)])
                assert "a process of the host shares the port" in net.warnings[0]
                with listen(lease.netns_fd, 80) as server:
                    greet(server, tcp(), ("127.0.0.1", ports[0].host_port))
            lease.close()

    asyncio.run(run())


def test_maker_killed() -> None:
    async def run() -> None:
        async with network(pool_size=1) as net:
            first = await net.acquire()
            maker = net._maker.pid
            assert maker is not None
            os.kill(maker, signal.SIGSTOP)
            waiting = [asyncio.ensure_future(net.acquire()) for _ in range(4)]
            await asyncio.sleep(0)
            os.kill(maker, signal.SIGKILL)
            leases = await asyncio.wait_for(asyncio.gather(*waiting), netlab.PATIENCE)
            assert net._maker.pid != maker
            with listen(first.netns_fd, 80) as server:
                greet(server, tcp(leases[0].netns_fd), (first.endpoint.ip, 80))
            for lease in (first, *leases):
                lease.close()

    asyncio.run(run())


def test_wiped_ruleset_is_put_back_cve_2025_54388() -> None:
    async def run() -> None:
        netlab.set_sysctl("ipv4/ip_forward", "0")
        async with network() as net:
            lease = await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            nft = Nft()
            before = sorted(nft.run("list ruleset").splitlines())
            nft.run("flush ruleset")
            await _until(lambda: sorted(nft.run("list ruleset").splitlines()) == before)
            with listen(lease.netns_fd, 80) as server:
                greet(server, tcp(), ("127.0.0.1", port.host_port))
            nft.run("flush ruleset")
            net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 81)])  # need not wait until it is put back
            nft.close()
            lease.close()
        assert netlab.sysctl("ipv4/ip_forward") == "0"

    asyncio.run(run())


def test_firewall_that_comes_later_is_opened() -> None:
    async def run() -> None:
        async with network() as net:
            nft = Nft()
            nft.run("table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop; }\n}")
            await _until(lambda: net.bridge in nft.run("list chain ip filter FORWARD"))
            nft.run("delete table ip filter")
            nft.close()

    asyncio.run(run())


def test_namespaces_end_with_their_engine() -> None:
    with orphan() as left:
        watch = LinkWatch()
        while _devices(left.bridge) != {left.endpoint.host_ifname}:
            assert select.select([watch], [], [], netlab.PATIENCE)[0]
            watch.drain()
        watch.close()
        asyncio.run(BridgeNetwork(left.bridge, left.bip).close(keep=False))
        assert left.endpoint.host_ifname not in _devices("")


async def _until(condition: Callable[[], bool]) -> None:
    """Look again after each change of the ruleset."""
    watch, changed = RulesetWatch(), asyncio.Event()
    asyncio.get_running_loop().add_reader(watch.fileno(), changed.set)
    try:
        while not condition():
            await asyncio.wait_for(changed.wait(), netlab.PATIENCE)
            watch.read()
            changed.clear()
    finally:
        asyncio.get_running_loop().remove_reader(watch.fileno())
        watch.close()


@contextmanager
def _knocking(server: socket.socket, port: int) -> Iterator[list[str]]:
    """A client that connects again and again in the meantime; yields what went wrong."""
    failures: list[str] = []
    enough = threading.Event()

    def knock() -> None:
        while not enough.is_set():
            try:
                greet(server, tcp(), ("127.0.0.1", port))
            except OSError as error:
                failures.append(str(error))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield failures
    finally:
        enough.set()
        thread.join()


def _devices(bridge: str) -> set[str]:
    """The bridge's ports, or all devices."""
    with RouteSocket() as routes:
        return {link.name for link in routes.links(master=routes.index(bridge) if bridge else 0)}


def _wait_for_end(pidfd: int) -> None:
    assert select.select([pidfd], [], [], netlab.PATIENCE)[0], "the maker outlived its engine"
    os.close(pidfd)
