"""The IPv4 addresses of one bridge: handed out in turn, none again before its last user has left the wire."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from sampan.errors import InvalidArgument, Unavailable


class AddressPool:
    """The addresses of the subnet that `bip` (the bridge's own address with prefix, "172.29.0.1/16") lies in.

    Addresses go round robin, so that an old peer's cache or connection seldom meets a new container. One that was
    given back stays out until `is_present` says that the device it was used by is gone: the kernel removes a dead
    namespace later, and until then its end of the veth still answers for the address.
    """

    def __init__(self, bip: str, is_present: Callable[[str], bool]) -> None:
        try:
            interface = ipaddress.IPv4Interface(bip)
        except ValueError as error:
            raise InvalidArgument(f"invalid bridge address {bip!r}: {error}") from error
        if not 8 <= interface.network.prefixlen <= 29:
            raise InvalidArgument(f"invalid bridge address {bip!r}: a prefix of /8 to /29 is needed")
        self.network = interface.network
        self.gateway = str(interface.ip)
        self.prefix = interface.network.prefixlen
        self._first = int(self.network.network_address) + 1
        self._last = int(self.network.broadcast_address) - 1
        if not self._first <= int(interface.ip) <= self._last:
            raise InvalidArgument(f"invalid bridge address {bip!r}: it is the network's own or its broadcast address")
        self._used = {int(interface.ip)}
        self._leaving: dict[int, str] = {}
        self._next = self._first
        self._is_present = is_present

    @property
    def capacity(self) -> int:
        """How many endpoints the subnet has room for."""
        return self._last - self._first

    @property
    def is_waiting(self) -> bool:
        """Whether an address may become free by itself, when the kernel has removed a device."""
        return bool(self._leaving)

    def take(self) -> str:
        """The next free address. Raises Unavailable when there is none."""
        for candidate in self._candidates():
            if candidate not in self._used and not self._is_leaving(candidate):
                self._used.add(candidate)
                self._next = candidate + 1
                return str(ipaddress.IPv4Address(candidate))
        raise Unavailable(f"no available IPv4 addresses in the subnet {self.network}")

    def claim(self, ip: str) -> None:
        """Mark an address as in use. Raises InvalidArgument if it is not of this subnet."""
        number = self._number(ip)
        self._used.add(number)
        if number >= self._next:
            self._next = number + 1

    def give_back(self, ip: str, host_ifname: str) -> None:
        """The address is free once the device `host_ifname` is gone. Unknown addresses are ignored."""
        number = self._number(ip)
        if number in self._used:
            self._used.discard(number)
            self._leaving[number] = host_ifname

    def _number(self, ip: str) -> int:
        number = int(ipaddress.IPv4Address(ip))
        if not self._first <= number <= self._last:
            raise InvalidArgument(f"the address {ip} is not in the subnet {self.network}")
        return number

    def _candidates(self) -> Iterator[int]:
        start = self._next if self._first <= self._next <= self._last else self._first
        yield from range(start, self._last + 1)
        yield from range(self._first, start)

    def _is_leaving(self, number: int) -> bool:
        device = self._leaving.get(number)
        if device is None:
            return False
        if self._is_present(device):
            return True
        del self._leaving[number]
        return False
