"""One network namespace, made ready: the steps in the kernel, for a single-threaded process."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from sampan.linux import netns, rtnetlink
from sampan.linux.rtnetlink import RouteSocket

_LOOPBACK = 1  # the first device of every network namespace
_BRIDGE_NETFILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"

# Docker's defaults: any port may be listened on and ping needs no capability. Without IPv6 on the bridge no address
# comes from a link-local neighbour or a rogue router (CVE-2020-13401, CVE-2024-32473): set as default before the
# device is born.
_SYSCTLS = (
    ("ipv4/ip_unprivileged_port_start", b"0"),
    ("ipv4/ping_group_range", b"0 2147483647"),
    ("ipv6/conf/default/disable_ipv6", b"1"),
    ("ipv6/conf/default/accept_ra", b"0"),
)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a namespace is connected: a veth pair, `host_ifname` on the bridge of index `bridge` and eth0 inside."""

    bridge: int
    host_ifname: str
    ip: str
    prefix: int
    gateway: str
    mac: str
    mtu: int


class NamespaceFactory:
    """Makes namespaces beside the network namespace it was itself made in ("the host")."""

    def __init__(self) -> None:
        self._home = netns.current()
        self._host = RouteSocket()

    def bridged(self, wiring: Wiring) -> int:
        """A namespace with loopback and an eth0 on the bridge, both up, and a default route. The caller owns the fd.

        Costs 1 to 3 ms. Raises OSError; what was half made goes with the namespace.
        """
        namespace, inside = self._bare()
        with inside:
            try:
                self._host.run(
                    rtnetlink.create_veth(wiring.host_ifname, "eth0", namespace, wiring.mtu, wiring.mac),
                    rtnetlink.plug(wiring.host_ifname, wiring.bridge),
                )
                if _is_bridge_filtered():
                    self._host.run(rtnetlink.set_hairpin(self._host.index(wiring.host_ifname)))
                eth0 = inside.index("eth0")
                inside.run(
                    rtnetlink.set_link(_LOOPBACK, up=True),
                    rtnetlink.set_link(eth0, up=True),
                    rtnetlink.add_address(eth0, wiring.ip, wiring.prefix),
                    rtnetlink.add_default_route(wiring.gateway),
                )
            except BaseException:
                os.close(namespace)
                raise
        return namespace

    def loopback(self) -> int:
        """A namespace with nothing but loopback. The caller owns the fd. Costs about 0.5 ms. Raises OSError."""
        namespace, inside = self._bare()
        with inside:
            try:
                inside.run(rtnetlink.set_link(_LOOPBACK, up=True))
            except BaseException:
                os.close(namespace)
                raise
        return namespace

    def host_addresses(self) -> frozenset[str]:
        """The host's IPv4 addresses."""
        return frozenset(address.ip for address in self._host.addresses())

    def remove_ports(self, bridge: int, keep: frozenset[str]) -> None:
        """Remove the bridge's ports that are not in `keep`. 10 to 30 ms each."""
        for link in self._host.links(master=bridge):
            if link.kind == "veth" and link.name not in keep:
                self.remove_link(link.index)

    def remove_link(self, index: int) -> None:
        """Remove a device; no error if it is gone already."""
        try:
            self._host.run(rtnetlink.delete_link(index))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def _bare(self) -> tuple[int, RouteSocket]:
        with netns.created(self._home) as namespace:
            try:
                _write_sysctls()
                return namespace, RouteSocket()
            except BaseException:
                os.close(namespace)
                raise


def _write_sysctls() -> None:
    """/proc/sys/net shows the namespace of whoever opens a file there."""
    for name, value in _SYSCTLS:
        try:
            fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without IPv6
            continue
        try:
            os.write(fd, value)
        finally:
            os.close(fd)


def _is_bridge_filtered() -> bool:
    """With br_netfilter, a container's packet to a port of its own is rewritten inside the bridge, and would have to
    leave by the port it came in by: bridges drop that unless the port is in hairpin mode. Otherwise it takes the way
    up to IP and back, and hairpin mode would only reflect every broadcast to its sender."""
    try:
        with open(_BRIDGE_NETFILTER, "rb") as setting:
            return setting.read(1) == b"1"
    except FileNotFoundError:
        return False
