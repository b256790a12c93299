"""A container's /etc/hosts (hosts(5)): pure functions of text."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from sampan.errors import InvalidArgument

HOST_GATEWAY = "host-gateway"
"""As the address of an extra host: the host itself, seen from the container."""

_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def container_file(
    hostname: str = "", domain: str = "", ip: str = "", extra_hosts: Sequence[str] = (), gateway: str = "",
) -> str:
    """The text for a container with its own network: localhost, --add-host, its own names at its own address.

    `extra_hosts` are Docker's "name:address" (or "name=address"). Without `ip` (--network none) the container's name
    is not in the file. Raises InvalidArgument.
    """
    own = ""
    if ip and hostname:
        full = f"{hostname}.{domain}" if domain else hostname
        names = [full] + ([hostname.split(".")[0]] if "." in full else [])
        own = f"{ipaddress.ip_address(ip)}\t{' '.join(_name(name) for name in names)}\n"
    return _LOCALHOST + extra_lines(extra_hosts, gateway) + own


def host_network_file(host_text: str, extra_hosts: Sequence[str] = (), gateway: str = "") -> str:
    """The text for a container in the host's network: the host's own file and --add-host."""
    ending = "" if not host_text or host_text.endswith("\n") else "\n"
    return host_text + ending + extra_lines(extra_hosts, gateway)


def extra_lines(extra_hosts: Sequence[str], gateway: str = "") -> str:
    """The lines of --add-host. `gateway` is what `host-gateway` stands for. Raises InvalidArgument."""
    return "".join(f"{address}\t{name}\n" for name, address in (parse_extra(entry, gateway) for entry in extra_hosts))


def parse_extra(entry: str, gateway: str = "") -> tuple[str, str]:
    """ "name:address" → (name, address). Raises InvalidArgument with Docker's words."""
    equal, colon = entry.find("="), entry.find(":")
    at = equal if equal >= 0 and (colon < 0 or equal < colon) else colon
    name, address = entry[:at], entry[at + 1 :]
    if at <= 0 or not address:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        if not gateway:
            raise InvalidArgument("unable to derive the IP value for host-gateway")
        return _name(name), gateway
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return _name(name), str(ipaddress.ip_address(address))
    except ValueError as error:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from error


def _name(name: str) -> str:
    """One word: a line break here would be a line of the file, a "#" the rest of one."""
    if not name or len(name) > 253 or name.split() != [name] or not name.isprintable() or "#" in name:
        raise InvalidArgument(f"invalid host name {name!r}")
    return name
