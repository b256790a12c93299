"""What is known of a container and must survive the engine."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.engine import lifecycle
from sampan.engine.timestamps import ZERO


class Endpoint(msgspec.Struct, frozen=True):
    """A container's place on the bridge (network/bridge.py) as it is kept."""

    ip: str
    prefix: int
    gateway: str
    mac: str
    host_ifname: str
    endpoint_id: str


class Port(msgspec.Struct, frozen=True):
    """A published port, its host port chosen."""

    proto: str
    host_ip: str
    host_port: int
    container_port: int


class MountPoint(msgspec.Struct):
    """An entry of inspect's `Mounts`. `type` is bind, volume or tmpfs; `name` only for volumes.

    `anonymous` volumes belong to this container and go with it (`rm -v`, `--rm`). `copy`: a volume that is empty gets
    what the image has at the destination.
    """

    type: str
    source: str
    destination: str
    rw: bool = True
    mode: str = ""
    propagation: str = ""
    name: str = ""
    anonymous: bool = False
    copy: bool = False


class Record(msgspec.Struct):
    """`config` and `host_config` are Docker's, normalised. Times are RFC 3339 or `created` in nanoseconds.

    `starting`: a start is under way; found by the next engine, it means the last one died in the middle of it.
    `killed_by`: who ended it when it was neither itself nor a user: "memory limit of this container", "host out of
    memory", "shim lost". `stopped_by_user`: restart policies stay away (until the next start, or the next engine for
    `always`).
    """

    id: str
    name: str
    created: int
    image: str
    image_name: str
    config: dict[str, Any]
    host_config: dict[str, Any]
    layers: list[str] = []  # diff ids, bottom first: the image may lose its names, the container keeps its layers
    networks: dict[str, Any] = {}
    path: str = ""
    args: list[str] = []
    mounts: list[MountPoint] = []
    status: str = lifecycle.CREATED
    starting: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    killed_by: str = ""
    started_at: str = ZERO
    finished_at: str = ZERO
    restart_count: int = 0
    stopped_by_user: bool = False
    endpoint: Endpoint | None = None
    ports: list[Port] = []
    cgroups: dict[str, str] = {}
    netns: str = ""  # the network namespace's inode, as in SandboxKey
    internal: bool = False  # a build step: not listed
    runtime: str = ""  # the program of another OCI runtime, as it was at the last start

    @property
    def auto_remove(self) -> bool:
        return bool(self.host_config.get("AutoRemove"))

    @property
    def tty(self) -> bool:
        return bool(self.config.get("Tty"))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    return _encode(record)


def decode(body: bytes) -> Record:
    """Raises msgspec.DecodeError for a record that is none."""
    return _decode(body)
