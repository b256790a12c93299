"""The nftables table of one bridge, as text: pure functions.

One table per bridge, so several engines and Docker live side by side and none reads another's rules. A published port
is one element of a map: publishing costs the same with one port as with a thousand, and so does a packet's look-up.

    packet for the host ──▶ prerouting / output: port in the map? ──▶ destination becomes the container
    packet of a container ──▶ forward ──▶ postrouting: leaves the bridge? ──▶ source becomes the host
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from sampan.linux.conntrack import PROTOCOLS
from sampan.network.endpoint import ANY, PortMapping

# What comes in with 127.0.0.0/8 on our bridge was made by a container: route_localnet, without which replies to
# published ports on 127.0.0.1 would be martians, must not open the host's loopback services (as CVE-2020-8558). It
# stands before conntrack, so replies (addressed to the bridge until conntrack has seen them) pass.
#
# prerouting leaves packets to 127.0.0.0/8 alone: from another machine they are an attack on ports published for
# 127.0.0.1 only, and the host's own come through `output`.
#
# The source address is kept (CVE-2021-20199), except where the answer would not come back through us: from the host's
# loopback, and from a container to a published port of its own bridge.
#
# Forward: out goes everything, in comes only what was published or asked for. The MSS is clamped to the
# route because path MTU discovery dies where ICMP is filtered.
_TABLE = """\
add table ip {table}
delete table ip {table}
table ip {table} {{
  map published {{
    type inet_proto . inet_service : ipv4_addr . inet_service
    {published}
  }}
  map published_at {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    {published_at}
  }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip saddr 127.0.0.0/8 drop
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 127.0.0.0/8 accept
    fib daddr type != local accept
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    dnat ip to meta l4proto . th dport map @published
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type != local accept
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    dnat ip to meta l4proto . th dport map @published
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
    oifname "{bridge}" ip saddr {subnet} ct status dnat masquerade
    oifname != "{bridge}" ip saddr {subnet} masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname != "{bridge}" oifname != "{bridge}" accept
    tcp flags syn / syn,rst tcp option maxseg size set rt mtu
    iifname "{bridge}" accept
    ct state established,related accept
    ct status dnat accept
    drop
  }}
}}
"""


def table_name(bridge: str) -> str:
    """The name of the bridge's table. `bridge` was checked by rtnetlink.check_name."""
    return "sampan_" + bridge.replace("@", "_at_")


def replace(bridge: str, subnet: IPv4Network, published: Mapping[PortMapping, str]) -> str:
    """Commands that put the whole table in place in one transaction, whatever was there: no packet falls between.

    `published` maps ports to the addresses of their containers.
    """
    return _TABLE.format(
        table=table_name(bridge), bridge=bridge, subnet=subnet,
        published=_declared(_element(port, ip) for port, ip in published.items() if port.host_ip == ANY),
        published_at=_declared(_element(port, ip) for port, ip in published.items() if port.host_ip != ANY),
    )


def remove(bridge: str) -> str:
    """Commands that remove the table; no error if there is none."""
    table = table_name(bridge)
    return f"add table ip {table}\ndelete table ip {table}\n"


def publish(bridge: str, ports: Iterable[PortMapping], ip: str) -> str:
    """Commands that add ports to the table; they fail if one is there already."""
    return _change("add", bridge, [(port, _element(port, ip)) for port in ports])


def unpublish(bridge: str, ports: Iterable[PortMapping]) -> str:
    """Commands that take ports out of the table; they fail if one is not there."""
    return _change("delete", bridge, [(port, _key(port)) for port in ports])


def _change(verb: str, bridge: str, elements: list[tuple[PortMapping, str]]) -> str:
    table = table_name(bridge)
    lines = []
    for name, anywhere in (("published", True), ("published_at", False)):
        chosen = [element for port, element in elements if (port.host_ip == ANY) is anywhere]
        if chosen:
            lines.append(f"{verb} element ip {table} {name} {{ {', '.join(chosen)} }}\n")
    return "".join(lines)


def _key(port: PortMapping) -> str:
    # The protocol by number: nft looks names up in /etc/protocols, which a minimal host does not have.
    key = f"{PROTOCOLS[port.proto]:d} . {int(port.host_port)}"
    return key if port.host_ip == ANY else f"{ipaddress.IPv4Address(port.host_ip)} . {key}"


def _element(port: PortMapping, ip: str) -> str:
    return f"{_key(port)} : {ip} . {int(port.container_port)}"


def _declared(elements: Iterable[str]) -> str:
    text = ", ".join(elements)
    return f"elements = {{ {text} }}" if text else ""
