"""The host's IPv4 forwarding switch, shared by all engines on it.

Without forwarding no packet passes between a bridge and the outside. Switching it on also makes the host a router
between devices that were strangers before, so the table below keeps those apart as long as the switch is on because
of us. It is also the memory of who uses the switch: it lives in the kernel beside it, so it is right even after
engines were killed, and gone when the switch is (reboot, network namespace).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sampan.linux.nftables import Nft
from sampan.linux.rtnetlink import RouteSocket

TABLE = "sampan_forwarding"
_SWITCH = "/proc/sys/net/ipv4/ip_forward"

_CREATE = """\
table ip {table} {{
  set engines {{ type ifname; elements = {{ "{bridge}" }}; }}
  set strangers {{ type ifname; {strangers} }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname @strangers oifname @strangers drop
  }}
}}
"""


def enable(nft: Nft, routes: RouteSocket, bridge: str, ours: bool = False) -> bool:
    """Switch forwarding on if it is off, and remember that `bridge` needs it. Idempotent. Raises OSError, NftError.

    Returns whether it is on because of us; `ours` says that this was known, if the memory of it was flushed away.
    """
    with _switch() as fd:
        users = _users(nft)
        is_on = os.pread(fd, 1, 0) == b"1"
        if users is not None:
            nft.run(f'add element ip {TABLE} engines {{ "{bridge}" }}')
        elif ours or not is_on:
            nft.run(_CREATE.format(table=TABLE, bridge=bridge, strangers=_strangers(routes, bridge)))
        else:
            return False
        if not is_on:
            os.pwrite(fd, b"1", 0)
        return True


def disable(nft: Nft, bridge: str, ours: bool = False) -> None:
    """`bridge` no longer needs forwarding; the last one that did switches it off if it is on because of us. Idempotent.

    `ours` as in `enable`: should others need the switch still, they put it back as they do with the memory of it.
    """
    with _switch() as fd:
        users = _users(nft)
        if users is None:
            if ours:
                os.pwrite(fd, b"0", 0)
        elif users - {bridge}:
            if bridge in users:
                nft.run(f'delete element ip {TABLE} engines {{ "{bridge}" }}')
        else:
            os.pwrite(fd, b"0", 0)
            nft.run(f"delete table ip {TABLE}")


@contextmanager
def _switch() -> Iterator[int]:
    """The switch, locked against other engines: a lock on the very thing, so no lock file is left or disagreed
    about."""
    fd = os.open(_SWITCH, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _users(nft: Nft) -> set[str] | None:
    """The bridges that need the switch; None when it was not us who switched it on."""
    tables = [item["table"] for item in nft.query("list tables ip") if "table" in item]
    if not any(table["name"] == TABLE for table in tables):
        return None
    listed: list[dict[str, Any]] = nft.query(f"list set ip {TABLE} engines")
    return {name for item in listed if "set" in item for name in item["set"].get("elem", [])}


def _strangers(routes: RouteSocket, bridge: str) -> str:
    """The devices the host has now, between which it did not forward. Not bridges and their ports: they may be
    Docker's, which is entitled to find forwarding on."""
    names = [
        link.name for link in routes.links()
        if link.kind != "bridge" and not link.master and link.name not in ("lo", bridge) and '"' not in link.name
    ]
    return "elements = {{ {} }};".format(", ".join(f'"{name}"' for name in names)) if names else ""
