"""--publish and --expose: Docker's port notations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sampan.cli.create.network import is_address
from sampan.cli.failure import CommandFailed

PROTOCOLS = ("tcp", "udp", "sctp")
LONG_KEYS = ("published", "target", "protocol", "mode")


def _range(text: str, what: str) -> tuple[int, int]:
    """First and last port of `80` or `80-90`. Raises CommandFailed."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= first <= last <= 65535 or (what == "containerPort" and first == 0):
        raise CommandFailed(f"invalid {what}: {text}", 125)
    return first, last


def _long_form(text: str) -> str:
    """`published=8080,target=80,protocol=udp` in the short form. Raises CommandFailed."""
    given: dict[str, str] = {}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals or key not in LONG_KEYS:
            raise CommandFailed(f"invalid publish opts format (should be name=value but got '{field}')", 125)
        given[key] = value
    return f"{given.get('published', '')}:{given.get('target', '')}/{given.get('protocol', 'tcp')}"


def parse_publish(text: str) -> list[tuple[str, dict[str, str]]]:
    """[("80/tcp", {"HostIp", "HostPort"}), …] of one --publish. Raises CommandFailed."""
    spec = _long_form(text) if "=" in text else text
    rest, slash, protocol = spec.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise CommandFailed(f"invalid proto: {protocol}", 125)
    address, host, inside = _split(rest)
    if address and not is_address(address):
        raise CommandFailed(f"invalid IP address: {address}", 125)
    if not inside:
        raise CommandFailed(f"no port specified: {text}<empty>", 125)
    first, last = _range(inside, "containerPort")
    host_first, host_last = _range(host, "hostPort") if host else (0, 0)
    if host and last - first != host_last - host_first and last != first:
        raise CommandFailed(f"invalid ranges specified for container and host Ports: {inside} and {host}", 125)
    result = []
    for offset in range(last - first + 1):
        if not host:
            host_port = ""
        elif last == first and host_last != host_first:
            host_port = f"{host_first}-{host_last}"
        else:
            host_port = str(host_first + offset)
        result.append((f"{first + offset}/{protocol}", {"HostIp": address, "HostPort": host_port}))
    return result


def _split(text: str) -> tuple[str, str, str]:
    """address, host ports, container ports of `[address:][host:]container`."""
    parts = text.rsplit(":", 2)
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    address = parts[0]
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address, parts[1], parts[2]


def published(texts: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """HostConfig.PortBindings."""
    result: dict[str, list[dict[str, str]]] = {}
    for text in texts:
        for port, binding in parse_publish(text):
            result.setdefault(port, []).append(binding)
    return result


def exposed(texts: Sequence[str]) -> list[str]:
    """The ports of --expose. Raises CommandFailed."""
    result = []
    for text in texts:
        if ":" in text:
            raise CommandFailed(f"invalid port format for --expose: {text}", 125)
        ports, slash, protocol = text.partition("/")
        protocol = protocol.lower() if slash else "tcp"
        if protocol not in PROTOCOLS:
            raise CommandFailed(f"invalid range format for --expose: {text}, error: invalid proto: {protocol}", 125)
        first, last = _range(ports, "containerPort")
        result += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return result
