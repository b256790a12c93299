"""Bridge, veth, nftables, forwarding: tried in a network namespace of the child's own."""

from __future__ import annotations

import os

from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import clone, netns
from sampan.linux.nftables import Nft
from sampan.linux.rtnetlink import RouteSocket, create_bridge, create_veth, plug

GROUP = "Network"
FORWARD = "/proc/sys/net/ipv4/ip_forward"
RULES = """
table ip sampan_doctor {
  map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
  chain pre { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . th dport map @ports; }
  chain post { type nat hook postrouting priority srcnat; ip saddr 192.0.2.0/24 masquerade; }
}
"""


def _bridge() -> str:
    clone.unshare(clone.NEWNET)
    home = netns.current()
    with RouteSocket() as routes:
        routes.run(create_bridge("doctor0", "02:00:00:00:00:01"))
        clone.unshare(clone.NEWNET)
        inner = netns.current()
        clone.setns(home)
        routes.run(create_veth("doctor1", "eth0", inner, 1500))
        routes.run(plug("doctor1", routes.index("doctor0")))
    return "a veth pair from a namespace into a bridge"


def _nftables() -> str:
    clone.unshare(clone.NEWNET)
    nft = Nft()
    nft.run(RULES)
    nft.close()
    return "address translation with maps"


def examine() -> list[Finding]:
    """What the default network needs."""
    findings = []
    good, text = works(_bridge)
    findings.append(
        Finding(GROUP, "bridge", OK, text) if good else
        Finding(GROUP, "bridge", MISSING, text, "containers have no network but host and none",
                "modprobe bridge veth, as root")
    )
    good, text = works(_nftables)
    findings.append(
        Finding(GROUP, "nftables", OK, text) if good else
        Finding(GROUP, "nftables", MISSING, text, "no published ports, and no way out for containers",
                "apt-get install libnftables1; modprobe nf_tables nft_chain_nat")
    )
    return [*findings, _forwarding(), *_bridge_filter()]


def _forwarding() -> Finding:
    with open(FORWARD, encoding="ascii") as file:
        on = file.read().strip() == "1"
    if on:
        return Finding(GROUP, "forwarding", OK, "net.ipv4.ip_forward = 1")
    if os.access(FORWARD, os.W_OK):
        return Finding(GROUP, "forwarding", OK, "net.ipv4.ip_forward = 0; the engine sets it when it starts")
    return Finding(GROUP, "forwarding", MISSING, "net.ipv4.ip_forward = 0 and not writable",
                   "containers reach this host only", "sysctl net.ipv4.ip_forward=1")


def _bridge_filter() -> list[Finding]:
    """br_netfilter sends bridged frames through iptables: another firewall's DROP then meets containers."""
    try:
        with open("/proc/sys/net/bridge/bridge-nf-call-iptables", encoding="ascii") as file:
            on = file.read().strip() == "1"
    except FileNotFoundError:
        return []
    if not on:
        return []
    return [Finding(GROUP, "br_netfilter", LIMITED, "bridged frames pass the host's iptables rules",
                    "a firewall that drops forwarded packets cuts containers off from each other",
                    "sysctl net.bridge.bridge-nf-call-iptables=0, unless Kubernetes on this host needs it")]
