"""A container's /etc/resolv.conf (resolv.conf(5)), made of the host's: pure functions of text."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument

HOST_FILE = "/etc/resolv.conf"
RESOLVED_STUB = "127.0.0.53"
RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved keeps the real servers when the host's file names only its stub."""

FALLBACK_SERVERS = ("8.8.8.8", "8.8.4.4")
"""Docker's: used when the host resolves names by a server on its own loopback only, which no container can reach."""

_MAX_TEXT = 1 << 16


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())  # lines like `sortlist`, kept as they are


def uses_stub(host_text: str) -> bool:
    """Whether the host's file names nothing but systemd-resolved's stub, so that `RESOLVED_FILE` has the servers."""
    return parse(host_text).servers == (RESOLVED_STUB,)


def container_file(
    host_text: str,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    own_network: bool = True,
) -> str:
    """The text for a container, from the host's file (or `RESOLVED_FILE`) and --dns, --dns-search, --dns-option.

    What is given replaces the host's of the same kind; a search of "." is none at all. With a network of its own, a
    container reaches neither the host's loopback nor, on an IPv4 bridge, IPv6 servers: the host's are left out.
    Raises InvalidArgument.
    """
    host = parse(host_text)
    servers = tuple(_address(server) for server in dns)
    if not servers:
        servers = tuple(s for s in host.servers if not own_network or _is_reachable(s))
        if not servers and own_network:
            servers = FALLBACK_SERVERS
    chosen_search = tuple(_word(name, "dns-search") for name in search) or host.search
    chosen_options = tuple(_word(option, "dns-option") for option in options) or host.options
    return render(Resolver(servers, () if chosen_search == (".",) else chosen_search, chosen_options, host.others))


def parse(text: str) -> Resolver:
    """Read a resolv.conf. As glibc does: the last `search` or `domain` line counts, options add up, and what it
    cannot read it skips. At most 64 KiB are read."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    others: list[str] = []
    for line in text[:_MAX_TEXT].splitlines():
        keyword, *values = line.split() or [""]
        if not values or keyword[0] in "#;":
            continue
        if keyword == "nameserver":
            servers.append(values[0])
        elif keyword in ("search", "domain"):
            search = tuple(values)
        elif keyword == "options":
            options += values
        else:
            others.append(" ".join([keyword, *values]))
    return Resolver(tuple(servers), search, tuple(options), tuple(others))


def render(resolver: Resolver) -> str:
    """The text of a resolv.conf."""
    lines = [f"nameserver {server}" for server in resolver.servers]
    if resolver.search:
        lines.append("search " + " ".join(resolver.search))
    if resolver.options:
        lines.append("options " + " ".join(resolver.options))
    return "".join(f"{line}\n" for line in (*lines, *resolver.others))


def _is_reachable(server: str) -> bool:
    """Whether a container on an IPv4 bridge can reach the server."""
    try:
        address = ipaddress.ip_address(server.split("%", 1)[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback and not address.is_unspecified


def _address(server: str) -> str:
    try:
        return str(ipaddress.ip_address(server))
    except ValueError as error:
        raise InvalidArgument(f"invalid DNS server address: {server!r} is not an IP address") from error


def _word(value: str, option: str) -> str:
    """One word: a line break here would be a line of the file."""
    if not value or len(value) > 1024 or value.split() != [value] or not value.isprintable():
        raise InvalidArgument(f"invalid value for {option}: {value!r}")
    return value
