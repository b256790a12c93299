"""Links, addresses and routes (rtnetlink(7), linux/if_link.h, linux/rtnetlink.h).

Functions that change something return a `Request`; `RouteSocket.run` sends any number of them in one call.
Devices are named by index (0: not given) wherever a name could change hands between two calls.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
    nested,
    number,
    string,
    text,
)

IFF_UP = 0x1

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 12, 18, 20, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_BRPORT_MODE = 4
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1

_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU = 2
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_AF_BRIDGE = 7
_RTMGRP_LINK = 1
_SIOCGIFINDEX = 0x8933

_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags

_IFNAME = re.compile(r"[A-Za-z0-9_.@-]{1,15}")


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. `mac` is "" where it has none, `master` 0, `peer_index` 0."""

    index: int
    name: str
    kind: str
    mtu: int
    mac: str
    up: bool
    master: int
    alias: str


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address of a device."""

    index: int
    ip: str
    prefix: int


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 unicast route of the main table. `gateway` is "" for a directly connected network; `mtu` 0: not set."""

    destination: str
    prefix: int
    index: int
    gateway: str
    metric: int
    mtu: int


def check_name(name: str) -> str:
    """A device name of the kernel's length (15 bytes) from a safe alphabet. Raises InvalidArgument."""
    if not _IFNAME.fullmatch(name) or name in (".", ".."):
        raise InvalidArgument(f"invalid network device name {name!r}: 1 to 15 letters, digits and _.-@ are allowed")
    return name


def check_mac(mac: str) -> bytes:
    """Six bytes of a unicast hardware address. Raises InvalidArgument."""
    parts = mac.split(":")
    try:
        data = bytes(int(part, 16) for part in parts if len(part) == 2)
    except ValueError:
        data = b""
    if len(parts) != 6 or len(data) != 6 or data[0] & 1:
        raise InvalidArgument(f"invalid MAC address {mac!r}")
    return data


def create_bridge(name: str, mac: str) -> Request:
    """A bridge, down. With a hardware address of its own it does not take over (and change) that of its ports.

    Alias and MTU are for `set_link`: the kernel ignores the one at birth, and forgets the other when ports come and go
    unless it was set afterwards.
    """
    body = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join((
        text(_IFLA_IFNAME, check_name(name)),
        attribute(_IFLA_ADDRESS, check_mac(mac)),
        nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge")),
    ))
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create bridge {name}")


def create_veth(name: str, peer: str, peer_netns: int, mtu: int, peer_mac: str = "") -> Request:
    """A veth pair, both ends down: `name` here and `peer` in the namespace of the descriptor `peer_netns`.

    Made in its namespace, the peer is never seen, renamed or moved here. (It cannot be born up: the kernel would
    open it before it has its other end, ENOTCONN.)
    """
    inner = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join((
        text(_IFLA_IFNAME, check_name(peer)),
        number(_IFLA_MTU, mtu),
        number(_IFLA_NET_NS_FD, peer_netns),
        attribute(_IFLA_ADDRESS, check_mac(peer_mac)) if peer_mac else b"",
    ))
    body = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join((
        text(_IFLA_IFNAME, check_name(name)),
        number(_IFLA_MTU, mtu),
        nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "veth"),
            nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, inner)),
        ),
    ))
    return Request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create veth {name}")


def plug(name: str, master: int) -> Request:
    """Make the device called `name` a port of the bridge with index `master`, and set it up.

    It gets no IPv6 link-local address: it is a plug, not a party on the network, and each address would cost
    neighbour and router solicitations. (The kernel takes this setting only from devices that exist already.)
    """
    quiet = nested(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE])))
    body = _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + b"".join((
        text(_IFLA_IFNAME, check_name(name)), number(_IFLA_MASTER, master), nested(_IFLA_AF_SPEC, quiet),
    ))
    return Request(_RTM_SETLINK, 0, body, f"connect {name} to its bridge")


def set_link(
    index: int, *, up: bool | None = None, mtu: int = 0, mac: str = "", name: str = "", master: int | None = None,
    netns: int = -1, alias: str = "",
) -> Request:
    """Change a device; what is not given stays. `master` 0 takes it from its bridge, `netns` (an fd) moves it."""
    change = 0 if up is None else IFF_UP
    body = _IFINFO.pack(0, 0, index, IFF_UP if up else 0, change) + b"".join((
        number(_IFLA_MTU, mtu) if mtu else b"",
        attribute(_IFLA_ADDRESS, check_mac(mac)) if mac else b"",
        text(_IFLA_IFNAME, check_name(name)) if name else b"",
        number(_IFLA_MASTER, master) if master is not None else b"",
        number(_IFLA_NET_NS_FD, netns) if netns >= 0 else b"",
        text(_IFLA_IFALIAS, alias) if alias else b"",
    ))
    return Request(_RTM_NEWLINK, 0, body, f"change network device {name or index}")


def set_hairpin(index: int) -> Request:
    """Let the bridge send a frame back out of the port it came in by."""
    mode = nested(_IFLA_PROTINFO, attribute(_IFLA_BRPORT_MODE, b"\1"))
    return Request(_RTM_SETLINK, 0, _IFINFO.pack(_AF_BRIDGE, 0, index, 0, 0) + mode, f"set hairpin on {index}")


def delete_link(index: int) -> Request:
    """Remove a device; a veth's other end goes with it. The kernel takes 10 to 30 ms: not for an event loop."""
    return Request(_RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0), f"delete network device {index}")


def add_address(index: int, ip: str, prefix: int) -> Request:
    """An IPv4 address with its network's broadcast address."""
    packed = socket.inet_pton(socket.AF_INET, ip)
    host_bits = (1 << (32 - prefix)) - 1
    broadcast = (int.from_bytes(packed, "big") | host_bits).to_bytes(4, "big")
    body = _IFADDR.pack(socket.AF_INET, prefix, 0, 0, index) + b"".join((
        attribute(_IFA_LOCAL, packed),
        attribute(_IFA_ADDRESS, packed),
        attribute(_IFA_BROADCAST, broadcast) if prefix < 31 else b"",
    ))
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, f"add address {ip}/{prefix}")


def delete_address(index: int, ip: str, prefix: int) -> Request:
    """Take an IPv4 address from a device."""
    body = _IFADDR.pack(socket.AF_INET, prefix, 0, 0, index) + attribute(_IFA_LOCAL, socket.inet_aton(ip))
    return Request(_RTM_DELADDR, 0, body, f"delete address {ip}/{prefix}")


def add_default_route(gateway: str, index: int = 0) -> Request:
    """The IPv4 route to everywhere else. Without an index the kernel finds the device by the gateway's address."""
    body = _RTMSG.pack(socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, _RTN_UNICAST, 0) + b"".join((
        attribute(_RTA_GATEWAY, socket.inet_pton(socket.AF_INET, gateway)),
        number(_RTA_OIF, index) if index else b"",
    ))
    return Request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, f"add default route by {gateway}")


class RouteSocket(NetlinkSocket):
    """Links, addresses and routes of the network namespace the socket was made in."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)

    def __enter__(self) -> RouteSocket:
        return self

    def index(self, name: str) -> int:
        """The index of a device. Raises OSError(ENODEV) naming it."""
        asked = struct.pack("16si20x", os.fsencode(check_name(name)), 0)
        try:
            answer = fcntl.ioctl(self.fileno(), _SIOCGIFINDEX, asked)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or errno.ENODEV), name) from None
        return int(struct.unpack_from("i", answer, 16)[0])

    def links(self, master: int = 0) -> list[Link]:
        """All devices, or the ports of the bridge with index `master` (the kernel filters)."""
        body = _IFINFO.pack(0, 0, 0, 0, 0) + (number(_IFLA_MASTER, master) if master else b"")
        links = [_link(data) for data in self.dump(Request(_RTM_GETLINK, 0, body, "list network devices"))]
        return [link for link in links if not master or link.master == master]

    def addresses(self) -> list[Address]:
        """All IPv4 addresses."""
        body = _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0)
        return [_address(data) for data in self.dump(Request(_RTM_GETADDR, 0, body, "list addresses"))]

    def routes(self) -> list[Route]:
        """The IPv4 unicast routes of the main table."""
        body = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_route(data) for data in self.dump(Request(_RTM_GETROUTE, 0, body, "list routes")))
        return [route for route in found if route is not None]


class LinkWatch:
    """Readable when a device of the network namespace it was made in comes, goes or changes (RTNLGRP_LINK)."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_ROUTE)
        self._sock.bind((0, _RTMGRP_LINK))

    def fileno(self) -> int:
        return self._sock.fileno()

    def drain(self) -> None:
        """Forget what was told so far; the watcher looks for itself. Never blocks."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._sock.recv(1 << 16)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # more was told than fits: as good as any word
                        raise

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(data)
    found = attributes(data[_IFINFO.size :])
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    return Link(
        index, string(found.get(_IFLA_IFNAME, b"")), string(info.get(_IFLA_INFO_KIND, b"")),
        _u32(found, _IFLA_MTU), found.get(_IFLA_ADDRESS, b"").hex(":"), bool(flags & IFF_UP),
        _u32(found, _IFLA_MASTER), string(found.get(_IFLA_IFALIAS, b"")),
    )


def _address(data: bytes) -> Address:
    _, prefix, _, _, index = _IFADDR.unpack_from(data)
    found = attributes(data[_IFADDR.size :])
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS) or bytes(4)
    return Address(index, socket.inet_ntop(socket.AF_INET, packed), prefix)


def _route(data: bytes) -> Route | None:
    _, prefix, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(data)
    found = attributes(data[_RTMSG.size :])
    if _u32(found, _RTA_TABLE, table) != _RT_TABLE_MAIN or kind != _RTN_UNICAST:
        return None
    metrics = attributes(found.get(_RTA_METRICS, b""))
    return Route(
        socket.inet_ntop(socket.AF_INET, found.get(_RTA_DST, bytes(4))), prefix, _u32(found, _RTA_OIF),
        socket.inet_ntop(socket.AF_INET, found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else "",
        _u32(found, _RTA_PRIORITY), _u32(metrics, _RTAX_MTU),
    )


def _u32(found: dict[int, bytes], kind: int, default: int = 0) -> int:
    data = found.get(kind)
    return int.from_bytes(data, "little" if _LITTLE else "big") if data is not None and len(data) == 4 else default


_LITTLE = struct.pack("=H", 1) == b"\1\0"
