"""A container's /etc/hostname, /etc/hosts and /etc/resolv.conf: written at each start, mounted over the image's."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from sampan.engine.record import Record
from sampan.errors import OutOfSpace

_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_RESOLV_CONF = "/etc/resolv.conf"
_RESOLVED = "/run/systemd/resolve/resolv.conf"
_FALLBACK = ("8.8.8.8", "8.8.4.4")  # as Docker, when the host's own servers cannot be reached from a container
_MAX = 64 << 10


def write(directory: str, record: Record, gateway: str) -> None:
    """Write all three into the directory, which is made. Raises OutOfSpace, OSError with the path."""
    os.makedirs(directory, 0o711, exist_ok=True)
    on_host = record.host_config.get("NetworkMode") == "host"
    hostname = str(record.config.get("Hostname") or "")
    _write(f"{directory}/hostname", f"{hostname}\n")
    _write(f"{directory}/hosts", hosts(record, gateway, _read("/etc/hosts") if on_host else _LOCALHOST))
    _write(f"{directory}/resolv.conf", resolv_conf(record.host_config, _host_resolv_conf(on_host), on_host))


def hosts(record: Record, gateway: str, base: str) -> str:
    """The content of /etc/hosts: `base`, `--add-host`, and the container's own name when it has an address."""
    lines = [base if base.endswith("\n") or not base else base + "\n"]
    for extra in record.host_config.get("ExtraHosts") or ():
        name, _, address = str(extra).partition(":")
        address = gateway if address == "host-gateway" else address.strip("[]")
        lines.append(f"{address}\t{name}\n")
    if record.endpoint is not None:
        hostname, domain = str(record.config.get("Hostname") or ""), record.config.get("Domainname")
        lines.append(f"{record.endpoint.ip}\t{f'{hostname}.{domain} {hostname}' if domain else hostname}\n")
    return "".join(lines)


def resolv_conf(host_config: dict[str, Any], host_text: str, on_host: bool = False) -> str:
    """The content of /etc/resolv.conf: `--dns…` where given, else the host's, without servers on its loopback."""
    servers, search, options = _parse(host_text)
    if not on_host:
        servers = [server for server in servers if not _is_loopback(server)] or list(_FALLBACK)
    servers = list(host_config.get("Dns") or servers)
    search = list(host_config.get("DnsSearch") or search)
    options = list(host_config.get("DnsOptions") or options)
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def _parse(text: str) -> tuple[list[str], list[str], list[str]]:
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return servers, search, options


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True  # not an address: of no use to anybody


def _host_resolv_conf(on_host: bool) -> str:
    """The host's; where that is only systemd-resolved's stub on 127.0.0.53, the servers behind it."""
    text = _read(_RESOLV_CONF)
    servers = _parse(text)[0]
    if not on_host and servers == ["127.0.0.53"]:
        return _read(_RESOLVED) or text
    return text


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    """In place: a container that shares the file (network mode container:ID) keeps seeing it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        data = text.encode()
        if os.write(fd, data) < len(data):
            raise OutOfSpace(f"no space left on device: {path}")
    finally:
        os.close(fd)


def paths(directory: str) -> dict[str, str]:
    """Where they are, by the names of Docker's inspect."""
    return {
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
    }
