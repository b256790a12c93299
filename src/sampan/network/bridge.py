"""One bridge network: the engine's side, for asyncio. Nothing here blocks longer than an nft command (below 1 ms)."""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Sequence

from sampan.errors import Conflict
from sampan.linux import rtnetlink
from sampan.linux.rtnetlink import RouteSocket
from sampan.network import uplink
from sampan.network.addresses import AddressPool
from sampan.network.client import MakerClient
from sampan.network.endpoint import Endpoint, Lease, PortMapping
from sampan.network.pool import NamespacePool, Segment
from sampan.network.ports import PortTable
from sampan.network.rules import HostRules

_OURS = "sampan"  # the alias (IFLA_IFALIAS) of bridges we made and may remove


class BridgeNetwork:
    """A bridge with its addresses, ready network namespaces, NAT and published ports.

    On the host it touches: the bridge, the nft table `sampan_<bridge>`, the forwarding switch (forwarding.py) and
    foreign forward chains that would drop everything (firewall.py). What it makes lives in the network namespace
    that the engine was in when the object was made. IPv4 only.
    """

    def __init__(self, bridge: str, bip: str, pool_size: int = 8) -> None:
        """`bip`: the bridge's address with prefix. Raises InvalidArgument; touches nothing."""
        self.bridge = rtnetlink.check_name(bridge)
        self._routes = RouteSocket()
        self._addresses = AddressPool(bip, self._is_present)
        self._ports = PortTable()
        self._maker = MakerClient()
        self._pool_size = pool_size
        self._pool: NamespacePool | None = None
        self._rules = HostRules(self.bridge, self._addresses.network, self._routes)
        self._adopted: list[str] = []

    @property
    def warnings(self) -> list[str]:
        """Sentences for the operator: what on the host stands in the way of containers now."""
        return self._rules.warnings + self._adopted

    @property
    def gateway(self) -> str:
        """The bridge's own address: the containers' default route, and `host-gateway`."""
        return self._addresses.gateway

    @property
    def subnet(self) -> str:
        """In CIDR form."""
        return str(self._addresses.network)

    @property
    def ready(self) -> int:
        """How many network namespaces wait to be used."""
        return len(self._pool) if self._pool else 0

    async def start(self, in_use: Sequence[tuple[Endpoint, Sequence[PortMapping]]] = ()) -> None:
        """Make the network, or take over what a former engine left; then keep namespaces ready.

        `in_use`: the endpoints of living containers with their ports as `publish` returned them. They stay connected
        and reachable all the time: the rules are replaced in one transaction. Other ports of the bridge are removed.
        Idempotent. Raises Conflict when the address range is in use elsewhere; then nothing new stays behind. """
        if self._pool is not None:
            return
        self._rules.open()
        self._maker.start()  # it warms up meanwhile
        was_there = self._find_bridge() is not None
        try:
            segment = self._set_up(in_use)
        except BaseException:
            await self.close(keep=was_there)
            raise
        self._maker.tell("remove_ports", bridge=segment.bridge, keep=[endpoint.host_ifname for endpoint, _ in in_use])
        self._pool = NamespacePool(self._maker, self._addresses, segment, self._pool_size)
        self._pool.fill()

    async def acquire(self, mac: str = "") -> Lease:
        """A network namespace with eth0 on the bridge, its address and default route; from the pool if there is one.

        The caller owns `Lease.netns_fd`, and gives the endpoint back with `release`. Raises Unavailable.
        """
        return await self._running().acquire(mac)

    async def acquire_loopback(self) -> int:
        """A network namespace with nothing but loopback (`--network none`); the caller owns the descriptor."""
        return (await self._maker.ask("loopback"))[0]

    def release(self, endpoint: Endpoint) -> None:
        """The endpoint's container is gone. Its ports are unpublished; its address is used again after all others, and
        not before the kernel has removed its device."""
        self.unpublish(endpoint)
        self._addresses.give_back(endpoint.ip, endpoint.host_ifname)

    def publish(self, endpoint: Endpoint, ports: Sequence[PortMapping]) -> list[PortMapping]:
        """Publish all of the ports or none; returns them with addresses and chosen ports filled in.

        Raises Conflict ("Bind for 0.0.0.0:8080 failed: port is already allocated"), InvalidArgument.
        """
        if not ports:
            return []
        chosen = self._ports.reserve(endpoint.endpoint_id, ports)
        try:
            self._rules.publish(chosen, endpoint.ip)
        except BaseException:
            self._ports.release(endpoint.endpoint_id)
            raise
        self._maker.tell("forget_flows", to="", udp=[port.host_port for port in chosen if port.proto == "udp"])
        return chosen

    def unpublish(self, endpoint: Endpoint) -> None:
        """Take the endpoint's ports back, and cut what is connected to it by them. Idempotent."""
        gone = self._ports.release(endpoint.endpoint_id)
        if gone:
            self._rules.unpublish(gone)
            self._maker.tell("forget_flows", to=endpoint.ip, udp=[])

    async def close(self, keep: bool) -> None:
        """Stop. `keep`: containers still run, so bridge and rules stay, and the next `start` takes them over.

        Otherwise the host is as it was before `start` when this returns. Idempotent.
        """
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self._ports.close()
        try:
            if not keep:
                self._rules.take_down()
        finally:
            try:
                if not keep:
                    await self._remove_bridge()
            finally:
                await self._maker.close()
                self._rules.close()

    def _set_up(self, in_use: Sequence[tuple[Endpoint, Sequence[PortMapping]]]) -> Segment:
        self._refuse_overlap()
        segment = self._bridge_up(is_used=bool(in_use))
        published: dict[PortMapping, str] = {}
        self._adopted = []
        for endpoint, ports in in_use:
            self._addresses.claim(endpoint.ip)
            self._adopted += self._ports.adopt(endpoint.endpoint_id, ports)
            published.update(dict.fromkeys(self._ports.of(endpoint.endpoint_id), endpoint.ip))
        self._rules.put_up(published)
        return segment

    def _bridge_up(self, is_used: bool) -> Segment:
        mtu = uplink.mtu(self._routes)
        found = self._find_bridge()
        if found is None:
            mac = "02:42:" + ":".join(f"{int(part):02x}" for part in self.gateway.split("."))
            self._routes.run(rtnetlink.create_bridge(self.bridge, mac))
            self._routes.run(rtnetlink.set_link(self._routes.index(self.bridge), alias=_OURS))
        elif found.kind != "bridge":
            raise Conflict(f"the network device {self.bridge} exists already and is not a bridge")
        index = self._routes.index(self.bridge)
        _write_sysctl(f"ipv6/conf/{self.bridge}/disable_ipv6", "1")
        _write_sysctl(f"ipv4/conf/{self.bridge}/route_localnet", "1")
        self._address(index, is_ours=found is None or found.alias == _OURS, is_used=is_used)
        self._routes.run(rtnetlink.set_link(index, up=True, mtu=mtu))
        return Segment(index, mtu)

    def _address(self, index: int, is_ours: bool, is_used: bool) -> None:
        """Give the bridge its address, and take away what it had under another --bip."""
        present = [address for address in self._routes.addresses() if address.index == index]
        wanted = (self.gateway, self._addresses.prefix)
        if is_ours and not is_used:
            old = [address for address in present if (address.ip, address.prefix) != wanted]
            self._routes.run(*(rtnetlink.delete_address(index, a.ip, a.prefix) for a in old))
        if wanted not in [(address.ip, address.prefix) for address in present]:
            self._routes.run(rtnetlink.add_address(index, *wanted))

    def _find_bridge(self) -> rtnetlink.Link | None:
        return next((link for link in self._routes.links() if link.name == self.bridge), None)

    def _refuse_overlap(self) -> None:
        """An address range that the host uses elsewhere would cut the host off from there."""
        names = {link.index: link.name for link in self._routes.links()}
        for route in self._routes.routes():
            network = ipaddress.IPv4Network((route.destination, route.prefix))
            device = names.get(route.index, "another device")
            if route.prefix and device != self.bridge and network.overlaps(self._addresses.network):
                raise Conflict(
                    f"the bridge address {self.gateway}/{self._addresses.prefix} overlaps with the host's route to"
                    f" {network} on {device}: choose another with --bip"
                )

    async def _remove_bridge(self) -> None:
        """With the ports first, so that nothing of ours is left when the call returns."""
        found = self._find_bridge()
        if found is None or found.kind != "bridge":
            return
        await self._maker.ask("remove_ports", bridge=found.index, keep=[])
        if found.alias == _OURS:
            await self._maker.ask("remove_link", index=found.index)

    def _running(self) -> NamespacePool:
        if self._pool is None:
            raise Conflict(f"the network {self.bridge} is not started")
        return self._pool

    def _is_present(self, device: str) -> bool:
        try:
            self._routes.index(device)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True


def _write_sysctl(name: str, value: str) -> None:
    """Raises OSError with the path. A kernel without IPv6 has no such settings, and needs none."""
    try:
        fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if name.startswith("ipv6/"):
            return
        raise
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
