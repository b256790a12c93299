"""Network namespaces kept ready: a container's start takes one and does not wait for the kernel."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from dataclasses import dataclass

from sampan.errors import SampanError, Unavailable
from sampan.linux.rtnetlink import LinkWatch, check_mac
from sampan.network.addresses import AddressPool
from sampan.network.client import Answer, MakerClient
from sampan.network.endpoint import Endpoint, Lease

_PATIENCE = 5.0  # seconds; the kernel usually takes 0.1
_log = logging.getLogger("sampan.network")


@dataclass(frozen=True, slots=True)
class Segment:
    """The bridge that the namespaces are connected to."""

    bridge: int  # device index
    mtu: int


class NamespacePool:
    """`size` ready namespaces on a bridge, refilled while the engine does other things.

    The engine holds their descriptors: when it dies the kernel removes them, when the maker dies none is lost.
    """

    def __init__(self, maker: MakerClient, addresses: AddressPool, segment: Segment, size: int) -> None:
        self._maker = maker
        self._addresses = addresses
        self._segment = segment
        self._size = min(size, addresses.capacity // 4)
        self._ready: deque[Lease] = deque()
        self._waiting: deque[asyncio.Future[Lease]] = deque()
        self._making = 0
        self._closed = False
        self._watch: LinkWatch | None = None
        self._patience: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ready)

    def fill(self) -> None:
        """Have as many made as are missing."""
        while not self._closed and self._making + len(self._ready) < self._size + len(self._waiting):
            try:
                ip = self._addresses.take()
            except Unavailable as error:
                self._run_dry(error)
                return
            self._make(self._endpoint(ip))

    async def acquire(self, mac: str = "") -> Lease:
        """A ready namespace, else the next that is made; with a hardware address of its own it is made now.

        Raises Unavailable when the subnet is full, InvalidArgument for a bad `mac`.
        """
        if mac:
            return await self._made_to_order(mac)
        if self._ready:
            lease = self._ready.popleft()
            asyncio.get_running_loop().call_soon(self.fill)
            return lease
        waiting: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.fill()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._offer(waiting.result())
            raise

    def close(self) -> None:
        """Let go of all ready namespaces; the kernel removes them. Idempotent."""
        self._closed = True
        self._give_up(Unavailable("the network is being shut down"))
        while self._ready:
            lease = self._ready.popleft()
            self._addresses.give_back(lease.endpoint.ip, lease.endpoint.host_ifname)
            lease.close()

    def _endpoint(self, ip: str, mac: str = "") -> Endpoint:
        # A hardware address made of the IP address, as Docker's: neighbours' ARP caches stay true when it is used
        # again.
        mac = mac or "02:42:" + ":".join(f"{int(part):02x}" for part in ip.split("."))
        name = "veth" + secrets.token_hex(4)[:7]
        return Endpoint(ip, self._addresses.prefix, self._addresses.gateway, mac, name, secrets.token_hex(32))

    def _make(self, endpoint: Endpoint) -> None:
        self._making += 1
        self._ask(endpoint).add_done_callback(lambda done: self._made(endpoint, done))

    def _ask(self, endpoint: Endpoint) -> Answer:
        return self._maker.ask(
            "bridged", bridge=self._segment.bridge, mtu=self._segment.mtu, host_ifname=endpoint.host_ifname,
            ip=endpoint.ip, prefix=endpoint.prefix, gateway=endpoint.gateway, mac=endpoint.mac,
        )

    async def _made_to_order(self, mac: str) -> Lease:
        check_mac(mac)
        endpoint = self._endpoint(self._addresses.take(), mac)
        try:
            return Lease(endpoint, (await self._ask(endpoint))[0])
        except BaseException:
            self._addresses.give_back(endpoint.ip, endpoint.host_ifname)
            raise

    def _made(self, endpoint: Endpoint, answer: Answer) -> None:
        self._making -= 1
        if answer.cancelled() or (error := answer.exception()) is not None:
            self._addresses.give_back(endpoint.ip, endpoint.host_ifname)
            if not answer.cancelled():
                self._fail_one(error)
            return
        lease = Lease(endpoint, answer.result()[0])
        if self._closed:
            self._addresses.give_back(endpoint.ip, endpoint.host_ifname)
            lease.close()
        else:
            self._offer(lease)

    def _offer(self, lease: Lease) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(lease)
                return
        self._ready.append(lease)

    def _run_dry(self, error: Unavailable) -> None:
        """No address is free. Those of stopped containers become so when the kernel has removed their devices:
        whoever waits is served then, if that is soon."""
        if self._making or not any(not waiting.done() for waiting in self._waiting):
            return
        if self._watch is None and self._addresses.is_waiting:
            self._watch = LinkWatch()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._watch.fileno(), self._on_departure)
            self._patience = loop.call_later(_PATIENCE, self._give_up, error)
        elif self._watch is None:
            self._give_up(error)

    def _on_departure(self) -> None:
        if self._watch is not None:
            self._watch.drain()
        self.fill()
        if self._making:
            self._stop_watch()

    def _give_up(self, error: Unavailable) -> None:
        self._stop_watch()
        while any(not waiting.done() for waiting in self._waiting):
            self._fail_one(error)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
        self._watch = None
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None

    def _fail_one(self, error: BaseException | None) -> None:
        """One that waits learns why; without anyone waiting it is the log's, and the next acquire tries again."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error if isinstance(error, SampanError) else Unavailable(str(error)))
                return
        _log.warning("no network namespace could be made ready: %s", error)
