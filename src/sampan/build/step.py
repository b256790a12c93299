"""What the builder asks of the engine: run one RUN step in a container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sampan.oci.image import ContainerConfig


@dataclass(frozen=True)
class StepFile:
    """A file made for the step: bind `source` (a path on the host) read-only at `target`, below /dev."""

    source: str
    target: str


@dataclass(frozen=True)
class RunStep:
    """A container to run once. `id`: its id, 64 hex digits, already announced to the client.

    `lower_dirs`: the image so far, topmost first, with the mount points a container needs, so that none has to be made
    in the upper directory. `config`: its run config; entrypoint, command and health check of it do not count: `args`
    is the whole command line, `env` the whole environment (`name=value`). `user` is "" for root, `workdir` absolute.
    `network`: "default", "none", "host" or a name. `limits`: members of HostConfig.
    """

    id: str
    lower_dirs: list[str]
    config: ContainerConfig
    args: list[str]
    env: list[str]
    user: str = ""
    workdir: str = "/"
    network: str = "default"
    extra_hosts: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    files: tuple[StepFile, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """`upper_dir`: the overlay's upper directory with what the step wrote, on the store's file system, not mounted any
    more and from now on the builder's. `container_id`: what the container was called.
    """

    exit_code: int
    upper_dir: str
    container_id: str


class StepRunner(Protocol):
    """Given by the engine. When `run` raises or is cancelled, nothing of the container is left."""

    async def run(self, step: RunStep, output: Callable[[bytes], None]) -> RunResult: ...
