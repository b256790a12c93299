"""Other people's firewalls: forward chains that drop what they do not know, and us beside them.

In nftables a packet must be accepted by every chain of a hook, so the accept in our table is no help against a
foreign policy of drop (Docker's FORWARD, ufw). Two rules at the very end of such a chain accept our bridge's packets
where only the policy is left to decide: everything its owner said about them before still holds. They carry our name
and go when the engine goes.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from sampan.linux.nftables import Nft, NftError

_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_FAMILIES = ("ip", "inet")
_VERDICTS = ("drop", "reject")


@dataclass(frozen=True, slots=True)
class Chain:
    """A foreign base chain of the forward hook."""

    family: str
    table: str
    name: str
    drops: bool  # its policy

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def open_for(nft: Nft, bridge: str) -> list[str]:
    """Let the bridge's packets through; returns a sentence for each chain where that is not in our power.
    Idempotent."""
    warnings = []
    for chain in forward_chains(nft):
        rules = _rules(nft, chain)
        if _own(rules, bridge):
            continue
        if rules and _is_dead_end(rules[-1]):
            warnings.append(_blocked(chain, bridge, "its last rule lets nothing pass"))
        elif chain.drops:
            warnings += _append(nft, chain, bridge)
    return warnings + _legacy_warnings(bridge)


def close_for(nft: Nft, bridge: str) -> None:
    """Take our rules out of foreign chains again. Idempotent."""
    for chain in forward_chains(nft):
        for rule in _own(_rules(nft, chain), bridge):
            nft.run(f"delete rule {chain} handle {int(rule['handle'])}")


def forward_chains(nft: Nft) -> list[Chain]:
    """The foreign base chains of the forward hook."""
    chains = [item["chain"] for item in nft.query("list chains") if "chain" in item]
    return [
        Chain(chain["family"], chain["table"], chain["name"], chain.get("policy") == "drop")
        for chain in chains
        if chain.get("hook") == "forward"
        and chain["family"] in _FAMILIES
        and not chain["table"].startswith("sampan_")
    ]


def _append(nft: Nft, chain: Chain, bridge: str) -> list[str]:
    try:
        nft.run("".join(
            f'add rule {chain} {side} "{bridge}" counter accept comment "{_comment(bridge)}"\n'
            for side in ("iifname", "oifname")
        ))
    except NftError as error:  # a table with an owner takes no rules of others
        return [_blocked(chain, bridge, str(error))]
    return []


def _rules(nft: Nft, chain: Chain) -> list[dict[str, Any]]:
    return [item["rule"] for item in nft.query(f"list chain {chain}") if "rule" in item]


def _own(rules: list[dict[str, Any]], bridge: str) -> list[dict[str, Any]]:
    return [rule for rule in rules if rule.get("comment") == _comment(bridge)]


def _comment(bridge: str) -> str:
    return f"sampan {bridge}"


def _is_dead_end(rule: dict[str, Any]) -> bool:
    """Whether the rule drops whatever comes to it."""
    statements = rule.get("expr", [])
    ends = any(verdict in statement for statement in statements for verdict in _VERDICTS)
    return ends and not any("match" in statement or "xt" in statement for statement in statements)


def _blocked(chain: Chain, bridge: str, reason: str) -> str:
    remedy = f"it accepts packets from and to {bridge}"
    if chain.table == "firewalld":
        remedy = f"`firewall-cmd --zone=trusted --add-interface={bridge}` was run"
    return (
        f"the firewall chain {chain} drops forwarded packets ({reason}): containers on {bridge} have no way out"
        f" until {remedy}"
    )


def _legacy_warnings(bridge: str) -> list[str]:
    """Rules of the old iptables interface are invisible to nft, but act all the same."""
    try:
        in_use = "filter" in _LEGACY_TABLES.read_text().split()
    except FileNotFoundError:
        return []
    tool = which("iptables-legacy") if in_use else None
    if tool is None:
        return []
    listed = subprocess.run(
        [tool, "-w", "2", "-S", "FORWARD"],
        capture_output=True, text=True, timeout=5, check=False, stdin=subprocess.DEVNULL,
    )
    rules = listed.stdout.splitlines()
    if "-P FORWARD DROP" not in rules or f"-A FORWARD -i {bridge} -j ACCEPT" in rules:
        return []
    return [
        f"the legacy iptables FORWARD chain drops by default: containers on {bridge} have no way out until"
        f" `iptables-legacy -A FORWARD -i {bridge} -j ACCEPT` and `… -o {bridge} -j ACCEPT` were run"
    ]
