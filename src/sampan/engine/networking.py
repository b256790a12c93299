"""A container's way onto the network: its namespace, its address, its published ports."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.index import Index
from sampan.engine.record import Endpoint, Port, Record
from sampan.errors import Conflict, InvalidArgument
from sampan.network import endpoint as wire
from sampan.network.endpoint import PortMapping

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_HOST_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass
class Connection:
    """What a start needs: a namespace to join (the caller closes it) or none, and what to remember."""

    netns_fd: int | None = None
    endpoint: Endpoint | None = None
    ports: list[Port] = field(default_factory=list)

    def close(self) -> None:
        if self.netns_fd is not None:
            os.close(self.netns_fd)
            self.netns_fd = None


def mode(record: Record) -> str:
    """"bridge", "host", "none" or "container:REF"."""
    named = str(record.host_config.get("NetworkMode") or "default")
    if record.config.get("NetworkDisabled"):
        return "none"
    return "bridge" if named == "default" else named


async def connect(ctx: Context, container: Container) -> Connection:
    """Make the container's connection. Raises Conflict for a port that is taken; nothing stays then."""
    record = container.record
    kind = mode(record)
    if kind.startswith("container:"):
        other = peer(ctx.index, kind, "network")
        return Connection(open_namespace(other, "net"))
    if kind != "bridge":
        return Connection()
    lease = await ctx.network.acquire(_mac(record))
    try:
        wanted = mappings(record)
        chosen = ctx.network.publish(lease.endpoint, wanted) if wanted else []
    except BaseException:
        lease.close()
        ctx.network.release(lease.endpoint)
        raise
    ports = [Port(port.proto, port.host_ip, port.host_port, port.container_port) for port in chosen]
    return Connection(lease.netns_fd, kept(lease.endpoint), ports)


def _mac(record: Record) -> str:
    """The address asked for, "" for any."""
    asked: dict[str, Any] = next(iter(record.networks.values()), {})
    return str(asked.get("MacAddress") or record.config.get("MacAddress") or "")


def disconnect(ctx: Context, endpoint: Endpoint | None, ports: list[Port]) -> None:
    """Give ports and address back."""
    if endpoint is None:
        return
    if ports:
        ctx.network.unpublish(given(endpoint))
    ctx.network.release(given(endpoint))


def kept(endpoint: wire.Endpoint) -> Endpoint:
    return Endpoint(
        endpoint.ip, endpoint.prefix, endpoint.gateway, endpoint.mac, endpoint.host_ifname, endpoint.endpoint_id
    )


def given(endpoint: Endpoint) -> wire.Endpoint:
    return wire.Endpoint(
        endpoint.ip, endpoint.prefix, endpoint.gateway, endpoint.mac, endpoint.host_ifname, endpoint.endpoint_id
    )


def peer(index: Index, mode: str, what: str) -> Container:
    """The running container that "container:REF" names. Raises NotFound, Conflict."""
    other = index.find(mode.partition(":")[2])
    if not other.alive or other.shim is None:
        raise Conflict(f"cannot join {what} of a non running container: {other.id}")
    return other


def open_namespace(container: Container, kind: str) -> int:
    """A namespace of a running container's process 1, as a descriptor. Raises Conflict when it has just ended."""
    assert container.shim is not None
    try:
        fd = os.open(f"/proc/{container.shim.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Conflict(f"container {container.id} is not running") from error
    poller = select.poll()
    poller.register(container.shim.pidfd, select.POLLIN)
    if poller.poll(0):  # it ended before the open: the pid may be somebody else's by now
        os.close(fd)
        raise Conflict(f"container {container.id} is not running")
    return fd


def parse_port(text: str) -> tuple[int, str]:
    """"80/tcp" → (80, "tcp"); tcp where nothing is said. Raises InvalidArgument."""
    match = _PORT.fullmatch(text)
    if match is None or match[2] or not 1 <= int(match[1]) <= 65535:
        raise InvalidArgument(f'invalid port specification: "{text}"')
    return int(match[1]), (match[3] or "tcp").lower()


def mappings(record: Record) -> list[PortMapping]:
    """The ports to publish: `PortBindings`, and with `PublishAllPorts` every exposed one. Raises InvalidArgument."""
    bindings: dict[str, Any] = record.host_config.get("PortBindings") or {}
    found = [mapping for port, bound in bindings.items() for mapping in _bound(port, bound)]
    if record.host_config.get("PublishAllPorts"):
        published = {(mapping.container_port, mapping.proto) for mapping in found}
        for text in record.config.get("ExposedPorts") or ():
            number, proto = parse_port(text)
            if (number, proto) not in published:
                found.append(PortMapping(proto, "0.0.0.0", 0, number))
    return found


def _bound(port: str, bound: Any) -> Iterator[PortMapping]:
    number, proto = parse_port(port)
    if not isinstance(bound, list | None):
        raise InvalidArgument(f"invalid port binding for {port}: not a list")
    for binding in bound or [{}]:
        if not isinstance(binding, dict):
            raise InvalidArgument(f"invalid port binding for {port}: not an object")
        text = str(binding.get("HostPort") or "0")
        match = _HOST_PORT.fullmatch(text)
        if match is None or int(match[1]) > 65535 or int(match[2] or 0) > 65535:
            raise InvalidArgument(f'Invalid hostPort: "{text}"')
        if match[2] and int(match[2]) < int(match[1]):
            raise InvalidArgument(f'Invalid hostPort: "{text}": the range ends before it begins')
        yield PortMapping(
            proto, str(binding.get("HostIp") or "0.0.0.0"), int(match[1]), number, int(match[2] or 0)
        )
