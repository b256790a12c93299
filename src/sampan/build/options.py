"""What a build is asked for, besides the Dockerfile and the context."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sampan.errors import InvalidArgument, Unsupported


@dataclass(frozen=True)
class BuildOptions:
    """The parameters of the Docker Engine API's image build, decoded.

    `dockerfile`: its path in the context. `tags`: names for the image. `build_args`: a value of None takes an argument
    away. `network`: "" or "default", "none", "host" or a network's name. `limits`: members of Docker's HostConfig for
    the containers of RUN steps (Memory, MemorySwap, CpuShares, CpusetCpus, CpuPeriod, CpuQuota, ShmSize, Ulimits,
    CgroupParent, …), passed on as they are. `rm` only decides about a line of output: nothing is kept.
    """

    dockerfile: str = "Dockerfile"
    tags: tuple[str, ...] = ()
    build_args: dict[str, str | None] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    rm: bool = True
    force_rm: bool = False
    quiet: bool = False
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    platform: str = ""
    cache_from: tuple[str, ...] = ()
    squash: bool = False

    def check(self, host: str) -> None:
        """Refuse what cannot be done here. `host` is the host's platform, "linux/amd64"."""
        if self.squash:
            raise Unsupported("--squash is not supported: layers stay as the steps made them")
        if self.pull:
            raise Unsupported("--pull is not supported yet: base images come from `import` or `load`")
        if not self.dockerfile:
            raise InvalidArgument("the name of the Dockerfile is empty")
        check_platform(self.platform, host)


def check_platform(platform: str, host: str) -> None:
    """Raises Unsupported for any other platform than the host's; "linux", "amd64" and "linux/amd64" all name it."""
    if platform and platform.lower() not in {host, *host.split("/")}:
        raise Unsupported(f"cannot build for the platform {platform}: this host runs {host} only")
