"""The kernel's table of connections (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).

A rule decides about a connection's first packet only; the rest follows the table. So a UDP peer that never pauses keeps
talking to where a port went before, and a connection to a stopped container would reach the next one at its address.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.linux.netlink import (
    NETLINK_NETFILTER,
    NetlinkSocket,
    Request,
    attribute,
    attributes,
    nested,
    number,
)

_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK and the message
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_FILTER = 1, 2, 12, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V4_DST = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_FILTER_ORIG, _FILTER_REPLY = 1, 2
_MATCH_IP_SRC, _MATCH_PROTO, _MATCH_DST_PORT = 1 << 0, 1 << 3, 1 << 5

_HEADER = struct.pack("=BBH", socket.AF_INET, 0, 0)  # nfgenmsg: family, version, resource id
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}


@dataclass(frozen=True, slots=True)
class _Tuple:
    source: str
    destination: str
    proto: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class _Flow:
    orig: _Tuple
    reply: _Tuple
    key: bytes  # what names the flow to the kernel: the attributes CTA_TUPLE_ORIG and CTA_ID


class FlowTable:
    """The connections of the network namespace it was made in."""

    def __init__(self) -> None:
        self._sock = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        """Idempotent."""
        self._sock.close()

    def forget_server(self, ip: str) -> None:
        """Cut all connections to a container's address, also those that were addressed to the host."""
        source = attribute(_CTA_IP_V4_SRC, socket.inet_aton(ip))
        wanted = nested(_CTA_TUPLE_REPLY, nested(_CTA_TUPLE_IP, source))
        for flow in self._flows(wanted, reply=_MATCH_IP_SRC):
            if flow.reply.source == ip:
                self._delete(flow)

    def forget_port(self, proto: str, port: int, hosts: frozenset[str]) -> None:
        """Cut the connections to a port of one of the addresses `hosts` that went to the host itself."""
        proto_number = PROTOCOLS[proto]
        asked = nested(
            _CTA_TUPLE_PROTO,
            attribute(_CTA_PROTO_NUM, bytes([proto_number])),
            attribute(_CTA_PROTO_DST_PORT, struct.pack(">H", port)),
        )
        wanted = nested(_CTA_TUPLE_ORIG, asked)
        for flow in self._flows(wanted, orig=_MATCH_PROTO | _MATCH_DST_PORT):
            orig = flow.orig
            if (orig.proto, orig.destination_port) == (proto_number, port) and (
                orig.destination in hosts and orig.destination == flow.reply.source
            ):
                self._delete(flow)

    def _flows(self, wanted: bytes, orig: int = 0, reply: int = 0) -> Iterator[_Flow]:
        """The kernel filters from Linux 5.8 on; older ones send everything, so the callers look once more."""
        filters = nested(_CTA_FILTER, number(_FILTER_ORIG, orig), number(_FILTER_REPLY, reply))
        for body in self._sock.dump(Request(_CT_GET, 0, _HEADER + wanted + filters, "list connections")):
            found = attributes(body[len(_HEADER) :])
            if _CTA_TUPLE_ORIG in found and _CTA_TUPLE_REPLY in found:
                key = nested(_CTA_TUPLE_ORIG, found[_CTA_TUPLE_ORIG])
                if _CTA_ID in found:
                    key += attribute(_CTA_ID, found[_CTA_ID])
                yield _Flow(_tuple(found[_CTA_TUPLE_ORIG]), _tuple(found[_CTA_TUPLE_REPLY]), key)

    def _delete(self, flow: _Flow) -> None:
        try:
            self._sock.run(Request(_CT_DELETE, 0, _HEADER + flow.key, "cut a connection"))
        except OSError as error:
            if error.errno != errno.ENOENT:  # it has just ended by itself
                raise


def _tuple(data: bytes) -> _Tuple:
    found = attributes(data)
    ip, proto = attributes(found.get(_CTA_TUPLE_IP, b"")), attributes(found.get(_CTA_TUPLE_PROTO, b""))
    return _Tuple(
        _address(ip.get(_CTA_IP_V4_SRC)), _address(ip.get(_CTA_IP_V4_DST)),
        int.from_bytes(proto.get(_CTA_PROTO_NUM, b""), "big"),
        int.from_bytes(proto.get(_CTA_PROTO_DST_PORT, b""), "big"),
    )


def _address(data: bytes | None) -> str:
    return socket.inet_ntop(socket.AF_INET, data) if data is not None and len(data) == 4 else ""
