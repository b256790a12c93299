"""--network and what goes with it, --dns, --add-host."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

from sampan.cli.failure import CommandFailed
from sampan.cli.flags import Values

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

MAC = re.compile(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", re.ASCII)
DNS_DOMAIN = re.compile(r"(\w|-|\.)*[A-Za-z](\w|-|\.)*", re.ASCII)
BUILT_IN = ("default", "bridge", "host", "none")
# `--network a,alias=b`: the long form's keys.
LONG_KEYS = frozenset(("name", "alias", "driver-opt", "gw-priority", "ip", "ip6", "link-local-ip", "mac-address"))


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def check_ip(text: str) -> str:
    """Raises ValueError."""
    if not is_address(text):
        raise ValueError(f"invalid IP address: {text}")
    return text


def check_alias_address(text: str) -> str:
    """An address in a list. Raises ValueError."""
    if not is_address(text.strip()):
        raise ValueError(f"{text} is not an ip address")
    return text.strip()


def check_dns_search(text: str) -> str:
    """A domain, or `.` for none. Raises ValueError."""
    if text.strip() == ".":
        return "."
    if len(text) > 255 or not DNS_DOMAIN.fullmatch(text.strip()):
        raise ValueError(f"{text} is not a valid domain")
    return text.strip()


def check_extra_host(text: str) -> str:
    """`name:address` or `name=address`; the address may be in brackets, or host-gateway. Raises ValueError."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if address == "host-gateway":
        return f"{name}:{address}"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not is_address(address):
        raise ValueError(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def network_mode(values: Values) -> str:
    """HostConfig.NetworkMode: the first network, else `default`."""
    networks = values.texts("network")
    return _parse_network(networks[0])["name"] if networks else "default"


def _parse_network(text: str) -> dict[str, Any]:
    """`bridge`, or `name=bridge,alias=web,ip=…`."""
    attachment: dict[str, Any] = {"name": text, "alias": [], "link-local-ip": [], "driver-opt": {}}
    if not any(f"{key}=" in text for key in LONG_KEYS):
        if not text:
            raise CommandFailed("invalid --network: the name is empty", 125)
        return attachment
    attachment["name"] = ""
    for field in text.split(","):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals or key not in LONG_KEYS:
            raise CommandFailed(f"invalid field {field} in --network", 125)
        if key in ("alias", "link-local-ip"):
            attachment[key].append(value)
        elif key == "driver-opt":
            name, _, option = value.partition("=")
            attachment[key][name] = option
        else:
            attachment[key] = value
    if not attachment["name"]:
        raise CommandFailed(f'network name not set in "{text}"', 125)
    return attachment


def is_user_defined(network: str) -> bool:
    """Whether the network is one that somebody made."""
    return network not in BUILT_IN and not network.startswith("container:")


def endpoints(values: Values) -> dict[str, dict[str, Any]]:
    """NetworkingConfig.EndpointsConfig. The single options (--ip, --network-alias…) belong to the first network.

    Raises CommandFailed.
    """
    given = values.texts("network")
    attachments = [_parse_network(text) for text in given or ["default"]]
    first = attachments[0]
    for key in ("ip", "ip6", "mac-address"):
        if values.text(key):
            if first.get(key):
                raise CommandFailed(f"conflicting options: cannot specify both --{key} and per-network {key}", 125)
            first[key] = values.text(key)
    first["alias"] += values.texts("network-alias")
    first["link-local-ip"] += values.texts("link-local-ip")
    if is_user_defined(first["name"]):
        first["links"] = values.texts("link")
    result: dict[str, dict[str, Any]] = {}
    for attachment in attachments:
        name = attachment["name"]
        if name in result:
            raise CommandFailed(f'network "{name}" is specified multiple times', 125)
        if len(attachments) > 1 and not is_user_defined(name):
            raise CommandFailed(f"conflicting options: network {name} cannot be combined with others", 125)
        endpoint = _endpoint(attachment)
        if not given or is_user_defined(name) or any(endpoint.values()):
            result[name] = endpoint
    return result


def _endpoint(attachment: dict[str, Any]) -> dict[str, Any]:
    mac = attachment.get("mac-address", "")
    if mac and not MAC.fullmatch(mac):
        raise CommandFailed(f"{mac} is not a valid mac address", 125)
    if attachment["alias"] and not is_user_defined(attachment["name"]):
        raise CommandFailed("network-scoped aliases are only supported for user-defined networks", 125)
    priority = attachment.get("gw-priority", "0")
    if not re.fullmatch(r"-?\d+", priority):
        raise CommandFailed(f"invalid gw-priority: {priority}", 125)
    return {
        "IPAMConfig": _ipam(attachment), "Links": attachment.get("links") or None,
        "Aliases": attachment["alias"] or None, "MacAddress": mac, "DriverOpts": attachment["driver-opt"] or None,
        "GwPriority": int(priority), "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None,
    }


def _ipam(attachment: dict[str, Any]) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    if attachment.get("ip"):
        config["IPv4Address"] = attachment["ip"]
    if attachment.get("ip6"):
        config["IPv6Address"] = attachment["ip6"]
    if attachment["link-local-ip"]:
        config["LinkLocalIPs"] = attachment["link-local-ip"]
    return config or None


def extra_hosts(texts: Sequence[str]) -> list[str] | None:
    """HostConfig.ExtraHosts."""
    return list(texts) or None
