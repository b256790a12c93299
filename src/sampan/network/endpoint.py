"""What the rest of Sampan knows about a container's place on a bridge."""

from __future__ import annotations

import os
from dataclasses import dataclass

ANY = "0.0.0.0"
"""As a published port's host address: every IPv4 address of the host."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A network namespace's connection to a bridge. All fields are what Docker's inspect shows, or serve to find
    the endpoint again after a restart."""

    ip: str
    prefix: int
    gateway: str
    mac: str
    host_ifname: str
    endpoint_id: str


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A published port: what comes to `host_ip:host_port` goes to the container's `container_port`.

    `proto` is "tcp", "udp" or "sctp"; `host_ip` `ANY` (or "") is every IPv4 address of the host. When asked for,
    `host_port` 0 means a free one of the host's ephemeral range, and `host_port_end` the last of a range of which
    the first free one is taken.
    """

    proto: str
    host_ip: str
    host_port: int
    container_port: int
    host_port_end: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A ready network namespace. The holder closes `netns_fd`; the namespace lives as long as it, or a process
    inside, does."""

    endpoint: Endpoint
    netns_fd: int

    def close(self) -> None:
        """Once only: descriptor numbers are used again."""
        os.close(self.netns_fd)
