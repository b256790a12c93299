"""A network device that moves to another network namespace and keeps its addresses, IPv4 and IPv6 (rtnetlink(7)).

The kernel takes a device down and its addresses off when it moves; what was set up on the host for a container is read
before and put back behind it.
"""

from __future__ import annotations

import os
import struct

from sampan.linux import clone
from sampan.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
    number,
    string,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME = 15
"""Bytes of a device's name (IFNAMSIZ without its NUL)."""

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_IFLA_IFNAME, _IFLA_NET_NS_FD = 3, 28
_IFA_LABEL, _IFA_CACHEINFO = 3, 6
_IFA_F_PERMANENT = 0x80
_IFF_UP = 1
_RT_SCOPE_UNIVERSE = 0
_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index


def move(names: Mapping[str, str], netns: int) -> None:
    """Move devices of the caller's network namespace to that of the descriptor `netns`; each keeps its index if it can.

    `names`: name here → name there, "" to keep it, "eth%d" for the first that is free. They are up afterwards. Raises
    OSError naming the device: ENODEV, EEXIST when the name is taken there; then none has moved. If the kernel refuses
    one, those before it have moved, and end, or come back, with the namespace.
    """
    with NetlinkSocket(NETLINK_ROUTE) as here, _socket_in(netns) as there:
        found, taken = _links(here), _links(there)
        for name, new_name in names.items():
            if name not in found:
                raise OSError(19, "no such network device", name)
            if (new_name or name) in taken:
                raise OSError(17, f"the container has a network device {new_name or name} already", name)
        for name, new_name in names.items():
            try:
                _move(here, there, name, new_name or name, netns)
            except OSError as error:
                raise OSError(error.errno, error.strerror, name) from error


def _socket_in(netns: int) -> NetlinkSocket:
    """A socket belongs for ever to the namespace it was made in: only its making happens there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        clone.setns(netns, clone.NEWNET)
        try:
            return NetlinkSocket(NETLINK_ROUTE)
        finally:
            clone.setns(home, clone.NEWNET)
    finally:
        os.close(home)


def _move(here: NetlinkSocket, there: NetlinkSocket, name: str, new_name: str, netns: int) -> None:
    index = _links(here).get(name)
    if index is None:
        raise OSError(19, "no such network device")
    before = _links(there)
    if new_name in before:
        raise OSError(17, f"the container has a network device {new_name} already")
    kept = _addresses(here, index)
    down = _IFINFO.pack(0, 0, index, 0, _IFF_UP)
    here.run(
        Request(_RTM_NEWLINK, 0, down, "take it down"),
        Request(
            _RTM_NEWLINK, 0,
            _IFINFO.pack(0, 0, index, 0, 0) + number(_IFLA_NET_NS_FD, netns) + text(_IFLA_IFNAME, new_name),
            "move it to the container's network namespace",
        ),
    )
    moved = next(found for known, found in _links(there).items() if known not in before)
    up = _IFINFO.pack(0, 0, moved, _IFF_UP, _IFF_UP)
    # an IPv6 address needs the device up, or the kernel drops it when it comes up
    there.run(Request(_RTM_NEWLINK, 0, up, "bring it up"), *(_again(body, moved) for body in kept))


def _links(sock: NetlinkSocket) -> dict[str, int]:
    """Name → index of all devices."""
    request = Request(_RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0), "list network devices")
    found = {}
    for body in sock.dump(request):
        found[string(attributes(body[_IFINFO.size :])[_IFLA_IFNAME])] = _IFINFO.unpack_from(body)[2]
    return found


def _addresses(sock: NetlinkSocket, index: int) -> list[bytes]:
    """The permanent addresses of global scope, as the kernel describes them."""
    request = Request(_RTM_GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, 0), "list addresses")
    kept = []
    for body in sock.dump(request):
        _, _, flags, scope, owner = _IFADDR.unpack_from(body)
        if owner == index and flags & _IFA_F_PERMANENT and scope == _RT_SCOPE_UNIVERSE:
            kept.append(body)
    return kept


def _again(body: bytes, index: int) -> Request:
    """Add an address as it was; the label holds the old device's name, and how long it is valid is for ever."""
    family, prefix, flags, scope, _ = _IFADDR.unpack_from(body)
    found = attributes(body[_IFADDR.size :])
    kept = b"".join(
        attribute(kind, payload) for kind, payload in found.items() if kind not in (_IFA_LABEL, _IFA_CACHEINFO)
    )
    head = _IFADDR.pack(family, prefix, flags, scope, index)
    return Request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head + kept, "put its addresses back")
