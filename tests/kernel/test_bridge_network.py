"""A bridge network on the real kernel: containers (namespaces), the host, and a neighbour beside it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

import netlab
from netlab import Neighbour, greet, inside, listen, network, reaches, sysctl, tcp
from sampan.errors import Conflict, InvalidArgument, Unavailable
from sampan.linux import rtnetlink
from sampan.linux.nftables import Nft
from sampan.linux.rtnetlink import RouteSocket
from sampan.network.bridge import BridgeNetwork
from sampan.network.endpoint import Lease, PortMapping

EVERYWHERE = "0.0.0.0"


@pytest.fixture
def beside() -> Iterator[Neighbour]:
    with netlab.neighbour() as neighbour:
        yield neighbour


@pytest.fixture(params=["0", "1"], ids=["", "bridge-nf"])
def bridge_netfilter(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both settings of br_netfilter, where the kernel has it: bridged packets pass the host's filter or they do not."""
    name = "bridge/bridge-nf-call-iptables"
    if not os.path.exists(f"/proc/sys/net/{name}"):
        if request.param == "1":
            pytest.skip("this kernel has no br_netfilter")
        yield
        return
    before = sysctl(name)
    netlab.set_sysctl(name, request.param)
    yield
    netlab.set_sysctl(name, before)


def test_namespace_is_ready() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            endpoint = lease.endpoint
            with inside(lease.netns_fd):
                routes = RouteSocket()
                assert sysctl("ipv4/ip_unprivileged_port_start") == "0"
                assert sysctl("ipv4/ping_group_range").split() == ["0", "2147483647"]
            with routes:
                links = {link.name: link for link in routes.links()}
                assert links["eth0"].up and links["lo"].up
                assert links["eth0"].mac == endpoint.mac
                address = next(a for a in routes.addresses() if a.index == links["eth0"].index)
                assert (address.ip, address.prefix) == (endpoint.ip, endpoint.prefix)
                assert endpoint.gateway == net.gateway
                assert [route.gateway for route in routes.routes() if route.prefix == 0] == [net.gateway]
            lease.close()

    asyncio.run(run())


def test_loopback_only() -> None:
    async def run() -> None:
        async with network(pool_size=0) as net:
            namespace = await net.acquire_loopback()
            with inside(namespace):
                routes = RouteSocket()
                assert sysctl("ipv4/ip_unprivileged_port_start") == "0"
            with routes:
                up = [link.name for link in routes.links() if link.up]
                assert up == ["lo"] and routes.routes() == []
            os.close(namespace)

    asyncio.run(run())


def test_containers_reach_each_other(bridge_netfilter: None) -> None:
    async def run() -> None:
        async with network() as net:
            one, two = await net.acquire(), await net.acquire()
            with listen(one.netns_fd, 80) as server:
                assert greet(server, tcp(two.netns_fd), (one.endpoint.ip, 80)) == two.endpoint.ip
                assert greet(server, tcp(), (one.endpoint.ip, 80)) == net.gateway
            _close(one, two)

    asyncio.run(run())


def test_published_port_from_everywhere(beside: Neighbour, bridge_netfilter: None) -> None:
    async def run() -> None:
        async with network() as net:
            lease, other = await net.acquire(), await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            assert port.host_ip == EVERYWHERE and port.host_port >= 32768
            with listen(lease.netns_fd, 80) as server:
                seen = {
                    "loopback": greet(server, tcp(), ("127.0.0.1", port.host_port)),
                    "host": greet(server, tcp(), (beside.host_address, port.host_port)),
                    "gateway": greet(server, tcp(), (net.gateway, port.host_port)),
                    "neighbour": greet(server, tcp(beside.namespace), (beside.host_address, port.host_port)),
                    "other container": greet(server, tcp(other.netns_fd), (beside.host_address, port.host_port)),
                    "itself": greet(server, tcp(lease.netns_fd), (net.gateway, port.host_port)),
                    "itself by the host": greet(server, tcp(lease.netns_fd), (beside.host_address, port.host_port)),
                }
            assert seen == {
                "loopback": net.gateway,
                "host": beside.host_address,
                "gateway": net.gateway,
                "neighbour": beside.address,
                "other container": net.gateway,
                "itself": net.gateway,
                "itself by the host": net.gateway,
            }
            net.unpublish(lease.endpoint)
            assert not reaches(tcp(), ("127.0.0.1", port.host_port))
            _close(lease, other)

    asyncio.run(run())


def test_udp_port(beside: Neighbour) -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            (port,) = net.publish(lease.endpoint, [PortMapping("udp", EVERYWHERE, 0, 53)])
            with listen(lease.netns_fd, 53, socket.SOCK_DGRAM) as server:
                for client, host in ((_udp(), "127.0.0.1"), (_udp(beside.namespace), beside.host_address)):
                    with client:
                        client.sendto(b"question", (host, port.host_port))
                        question, peer = server.recvfrom(100)
                        server.sendto(question[::-1], peer)
                        assert client.recvfrom(100) == (b"noitseuq", (host, port.host_port))
            lease.close()

    asyncio.run(run())


def test_udp_peer_follows_a_port_to_its_next_container(beside: Neighbour) -> None:
    """A client that never pauses keeps its connection in the kernel's table alive; it must not stay with the dead."""

    async def run() -> None:
        async with network() as net:
            first, second = await net.acquire(), await net.acquire()
            with _udp(beside.namespace) as client:
                (port,) = net.publish(first.endpoint, [PortMapping("udp", EVERYWHERE, 0, 53)])
                target = (beside.host_address, port.host_port)
                with listen(first.netns_fd, 53, socket.SOCK_DGRAM) as server:
                    client.sendto(b"one", target)
                    assert server.recv(100) == b"one"
                net.unpublish(first.endpoint)
                os.close(await net.acquire_loopback())  # the maker works in order: old flows are forgotten now
                client.sendto(b"nobody", target)  # now the table says: this is for the host itself
                net.publish(second.endpoint, [port])
                os.close(await net.acquire_loopback())
                with listen(second.netns_fd, 53, socket.SOCK_DGRAM) as server:
                    client.sendto(b"two", target)
                    assert server.recv(100) == b"two"
            _close(first, second)

    asyncio.run(run())


def test_port_on_one_address(beside: Neighbour) -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            local, lan = net.publish(
                lease.endpoint, [PortMapping("tcp", "127.0.0.1", 0, 80), PortMapping("tcp", beside.host_address, 0, 80)]
            )
            with listen(lease.netns_fd, 80) as server:
                greet(server, tcp(), ("127.0.0.1", local.host_port))
                assert greet(server, tcp(beside.namespace), (beside.host_address, lan.host_port)) == beside.address
                assert not reaches(tcp(), (beside.host_address, local.host_port))
                assert not reaches(tcp(), ("127.0.0.1", lan.host_port))
            lease.close()

    asyncio.run(run())


def test_way_out_is_by_the_hosts_address(beside: Neighbour) -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            with listen(beside.namespace, 80) as server:
                assert greet(server, tcp(lease.netns_fd), (beside.address, 80)) == beside.host_address
            lease.close()

    asyncio.run(run())


def test_port_in_use() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            with socket.create_server(("127.0.0.1", 0)) as host:
                taken = host.getsockname()[1]
                with pytest.raises(Conflict, match=f"^Bind for 0.0.0.0:{taken} failed: port is already allocated$"):
                    net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 81), PortMapping("tcp", "", taken, 80)])
            (port,) = net.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
            with pytest.raises(Conflict, match="port is already allocated"):
                net.publish(lease.endpoint, [PortMapping("tcp", "", port.host_port, 80)])
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("0.0.0.0", port.host_port)).close()
            with pytest.raises(InvalidArgument, match="does not have this address"):
                net.publish(lease.endpoint, [PortMapping("tcp", "203.0.113.9", 8080, 80)])
            net.release(lease.endpoint)
            socket.create_server(("0.0.0.0", port.host_port)).close()
            lease.close()

    asyncio.run(run())


def test_port_of_a_server_that_has_just_ended() -> None:
    """Its connections in TIME_WAIT are no reason to refuse."""

    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            with socket.create_server(("127.0.0.1", 0)) as host:
                number = host.getsockname()[1]
                with socket.create_connection(("127.0.0.1", number)) as client:
                    host.accept()[0].close()
                    assert client.recv(1) == b""
            net.publish(lease.endpoint, [PortMapping("tcp", "", number, 80)])
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("0.0.0.0", number)).close()
            lease.close()

    asyncio.run(run())


def test_first_free_port_of_a_range() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire()
            with socket.create_server(("127.0.0.1", 0)) as host:
                first = host.getsockname()[1]
                asked = PortMapping("tcp", "", first, 80, host_port_end=first + 9)
                (port,) = net.publish(lease.endpoint, [asked])
                assert first < port.host_port <= first + 9 and port.host_port_end == 0
            lease.close()

    asyncio.run(run())


def test_many_at_once_and_in_turn() -> None:
    async def run() -> None:
        async with network(pool_size=3) as net:
            leases = await asyncio.gather(*(net.acquire() for _ in range(20)))
            assert len({lease.endpoint.ip for lease in leases}) == 20
            assert len({lease.endpoint.host_ifname for lease in leases}) == 20
            net.release(leases[0].endpoint)
            leases[0].close()
            lease = await net.acquire()
            assert lease.endpoint.ip != leases[0].endpoint.ip, "an address came back at once"
            _close(lease, *leases[1:])

    asyncio.run(run())


def test_address_comes_back_when_its_device_is_gone() -> None:
    """A /29 has room for five: the sixth waits until the kernel has removed another, and gets its address."""

    async def run() -> None:
        async with network(address="10.213.255.1/29", pool_size=1) as net:
            leases = [await net.acquire() for _ in range(5)]
            with pytest.raises(Unavailable, match="no available IPv4 addresses"):
                await net.acquire()
            waiting = asyncio.ensure_future(net.acquire())
            leases[2].close()
            net.release(leases[2].endpoint)
            lease = await asyncio.wait_for(waiting, netlab.PATIENCE)
            assert lease.endpoint.ip == leases[2].endpoint.ip
            del leases[2]
            _close(lease, *leases)

    asyncio.run(run())


def test_cancelled_acquire_loses_nothing() -> None:
    async def run() -> None:
        async with network(pool_size=0) as net:
            waiting = asyncio.ensure_future(net.acquire())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            lease = await net.acquire()
            assert lease.endpoint.ip.endswith(".2"), "the namespace made for the cancelled one was not used"
            lease.close()

    asyncio.run(run())


def test_own_hardware_address() -> None:
    async def run() -> None:
        async with network() as net:
            lease = await net.acquire(mac="92:d0:c6:0a:29:33")
            with inside(lease.netns_fd):
                routes = RouteSocket()
            with routes:
                assert "92:d0:c6:0a:29:33" in [link.mac for link in routes.links()]
            with pytest.raises(InvalidArgument, match="invalid MAC address"):
                await net.acquire(mac="01:00:5e:00:00:01")
            lease.close()

    asyncio.run(run())


def test_two_engines_side_by_side() -> None:
    async def run() -> None:
        async with network() as one, network() as two:
            first, second = await one.acquire(), await two.acquire()
            (port,) = one.publish(first.endpoint, [PortMapping("tcp", "", 0, 80)])
            with pytest.raises(Conflict, match="port is already allocated"):
                two.publish(second.endpoint, [port])
            with listen(first.netns_fd, 80) as server:
                assert greet(server, tcp(second.netns_fd), (one.gateway, port.host_port)) == one.gateway
                assert not reaches(tcp(second.netns_fd), (first.endpoint.ip, 80)), "networks are not isolated"
            _close(first, second)

    asyncio.run(run())


def test_refuses_a_used_address_range_and_a_used_name(beside: Neighbour) -> None:
    async def run() -> None:
        before = _host()
        with pytest.raises(Conflict, match=f"overlaps with the host's route to .* on {beside.device}"):
            await BridgeNetwork(netlab.bridge_name(), f"{beside.host_address}/16").start()
        with pytest.raises(Conflict, match="is not a bridge"):
            await BridgeNetwork(beside.device, netlab.bip()).start()
        assert _host() == before

    asyncio.run(run())


def test_host_is_as_before(beside: Neighbour) -> None:
    async def run() -> None:
        netlab.set_sysctl("ipv4/ip_forward", "0")
        before = _host()
        async with network() as one:
            assert sysctl("ipv4/ip_forward") == "1"
            async with network() as two:
                lease = await two.acquire()
                two.publish(lease.endpoint, [PortMapping("tcp", "", 0, 80)])
                lease.close()
            assert sysctl("ipv4/ip_forward") == "1", "the other engine still needs it"
            assert one.ready >= 0
        assert _host() == before

    asyncio.run(run())


def test_other_address_than_before() -> None:
    async def run() -> None:
        name = netlab.bridge_name()
        old = BridgeNetwork(name, "10.213.251.1/24", pool_size=0)
        await old.start()
        await old.close(keep=True)
        async with network(name=name, address="10.213.252.1/24"):
            with RouteSocket() as routes:
                index = routes.index(name)
                assert [a.ip for a in routes.addresses() if a.index == index] == ["10.213.252.1"]

    asyncio.run(run())


def test_own_bridge_of_the_administrator_stays() -> None:
    async def run() -> None:
        name = netlab.bridge_name()
        with RouteSocket() as routes:
            routes.run(rtnetlink.create_bridge(name, "02:00:00:00:00:01"))
            async with network(name=name) as net:
                (await net.acquire()).close()
            assert name in [link.name for link in routes.links()]
            routes.run(rtnetlink.delete_link(routes.index(name)))

    asyncio.run(run())


def test_mtu_is_that_of_the_way_out(beside: Neighbour) -> None:
    async def run() -> None:
        with RouteSocket() as routes:
            before = next(link.mtu for link in routes.links() if link.name == "eth0")
            routes.run(rtnetlink.set_link(routes.index("eth0"), mtu=1400))
            async with network() as net:
                lease = await net.acquire()
                with inside(lease.netns_fd):
                    there = RouteSocket()
                with there:
                    assert {link.name: link.mtu for link in there.links()}["eth0"] == 1400
                bridge = next(link for link in routes.links() if link.name == net.bridge)
                assert bridge.mtu == 1400
                with listen(beside.namespace, 80) as server:
                    with tcp(lease.netns_fd) as client:
                        client.connect((beside.address, 80))
                        accepted = server.accept()[0]
                        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 1400 - 40
                        accepted.close()
                lease.close()
            routes.run(rtnetlink.set_link(routes.index("eth0"), mtu=before))

    asyncio.run(run())


def test_beside_a_firewall_that_drops(beside: Neighbour) -> None:
    """Docker's and ufw's policy is drop: that does not bind us, but their rules do."""

    async def run() -> None:
        nft = Nft()
        nft.run(
            "table ip filter { chain FORWARD { type filter hook forward priority filter; policy drop;"
            f" ip daddr {beside.address} tcp dport 25 drop; }}\n}}"
        )
        before = nft.run("list ruleset")
        async with network() as net:
            assert net.warnings == []
            lease = await net.acquire()
            with listen(beside.namespace, 80) as web, listen(beside.namespace, 25):
                greet(web, tcp(lease.netns_fd), (beside.address, 80))
                assert not reaches(tcp(lease.netns_fd), (beside.address, 25))
            lease.close()
        assert nft.run("list ruleset") == before
        nft.run("delete table ip filter")
        nft.close()

    asyncio.run(run())


def test_firewall_that_drops_by_rule_is_told() -> None:
    async def run() -> None:
        nft = Nft()
        nft.run(
            "table inet strict { chain forward { type filter hook forward priority filter; policy accept;"
            " counter reject; }\n}"
        )
        async with network() as net:
            (warning,) = net.warnings
            assert "inet strict forward drops forwarded packets" in warning and net.bridge in warning
        nft.run("delete table inet strict")
        nft.close()

    asyncio.run(run())


def _close(*leases: Lease) -> None:
    for lease in leases:
        lease.close()


def _udp(namespace: int | None = None) -> socket.socket:
    if namespace is None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        with inside(namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(netlab.PATIENCE)
    return sock


def _host() -> list[str]:
    """What a network engine could change on the host."""
    commands = (["ip", "-o", "link"], ["ip", "-o", "-4", "addr"], ["ip", "route"], ["nft", "list", "ruleset"])
    texts = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    return [*texts, sysctl("ipv4/ip_forward"), sysctl("ipv4/conf/all/route_localnet")]
