"""What a bridge needs of the host's packet filter, kept in place.

The desired state is here; the kernel has a copy. If somebody wipes that (a firewall service that starts with `flush
ruleset`, a reload that forgets our accept rules), the kernel tells, and it is put back: containers do not lose their
network, or their protection, with a firewall's reload (CVE-2025-54388). """

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from sampan.errors import SampanError
from sampan.linux.nftables import Nft, NftError, RulesetWatch
from sampan.linux.rtnetlink import RouteSocket
from sampan.network import firewall, forwarding, ruleset
from sampan.network.endpoint import PortMapping

_CALM = 0.1  # seconds after a foreign change: firewalls change many things in a row
_log = logging.getLogger("sampan.network")


class HostRules:
    """The bridge's own table, the forwarding switch, and our rules in foreign chains. For one event loop."""

    def __init__(self, bridge: str, subnet: IPv4Network, routes: RouteSocket) -> None:
        self.warnings: list[str] = []
        self._bridge = bridge
        self._subnet = subnet
        self._routes = routes
        self._published: dict[PortMapping, str] = {}
        self._nft: Nft | None = None
        self._watch: RulesetWatch | None = None
        self._switched = False  # forwarding is on because of us
        self._check: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Connect to nftables; changes nothing. Idempotent. Raises Unsupported when the host does not have it."""
        self._nft = self._nft or Nft()

    def put_up(self, published: Mapping[PortMapping, str]) -> None:
        """Put everything in place, with these ports (by mapping, to the container's address), and keep it there.

        Takes over what a former engine left, in one transaction. Raises OSError, NftError, Unsupported.
        """
        self._published = dict(published)
        nft = self._connected()
        self._switched = forwarding.enable(nft, self._routes, self._bridge)
        self._replace()
        self.warnings = firewall.open_for(nft, self._bridge)
        self._watch = RulesetWatch()
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._on_change)

    def publish(self, ports: Iterable[PortMapping], ip: str) -> None:
        """Send these ports to a container; all or none."""
        added = dict.fromkeys(ports, ip)
        self._published.update(added)
        try:
            self._apply(ruleset.publish(self._bridge, added, ip))
        except BaseException:
            for port in added:
                del self._published[port]
            raise

    def unpublish(self, ports: Iterable[PortMapping]) -> None:
        """Send these ports nowhere."""
        gone = list(ports)
        for port in gone:
            self._published.pop(port, None)
        self._apply(ruleset.unpublish(self._bridge, gone))

    def take_down(self) -> None:
        """Remove all of it; also what a former engine left."""
        self._stop_watch()
        self._published.clear()
        nft = self._connected()
        nft.run(ruleset.remove(self._bridge))
        firewall.close_for(nft, self._bridge)
        forwarding.disable(nft, self._bridge, ours=self._switched)
        self._switched = False

    def close(self) -> None:
        """Stop looking; what is in place stays. Idempotent."""
        self._stop_watch()
        if self._nft is not None:
            self._nft.close()
        self._nft = None

    def _connected(self) -> Nft:
        self.open()
        assert self._nft is not None
        return self._nft

    def _apply(self, change: str) -> None:
        """Change the table; if it is not as we left it, put the whole of it in place again."""
        try:
            self._connected().run(change)
        except NftError:
            self._replace()

    def _replace(self) -> None:
        self._connected().run(ruleset.replace(self._bridge, self._subnet, self._published))

    def _on_change(self) -> None:
        assert self._watch is not None
        concerns_us = any(deleted or not table.startswith("sampan_") for table, deleted in self._watch.read())
        if concerns_us and self._check is None:
            self._check = asyncio.get_running_loop().call_later(_CALM, self._restore)

    def _restore(self) -> None:
        self._check = None
        nft = self._connected()
        try:
            tables = {item["table"]["name"] for item in nft.query("list tables ip") if "table" in item}
            if ruleset.table_name(self._bridge) not in tables:
                _log.warning("somebody removed the nft table %s: restored", ruleset.table_name(self._bridge))
                self._replace()
            if self._switched and forwarding.TABLE not in tables:
                forwarding.enable(nft, self._routes, self._bridge, ours=True)
            self.warnings = firewall.open_for(nft, self._bridge)
        except (SampanError, OSError) as error:
            _log.error("the rules of %s could not be restored: %s", self._bridge, error)

    def _stop_watch(self) -> None:
        if self._check is not None:
            self._check.cancel()
        self._check = None
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        self._watch = None
