"""What an engine is told when it starts: dockerd's own option names."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`data_root` survives a reboot, `exec_root` (a tmpfs) does not. `bip` is the bridge's address, "172.30.0.1/16".

    `cgroup_parent` is the path below which containers get their groups. `pool_size`: network namespaces kept ready.
    `runtimes`: further OCI runtimes, name → path; `default_runtime` is for containers that ask for none.
    """

    data_root: Path = Path("/var/lib/sampan")
    exec_root: Path = Path("/run/sampan")
    hosts: list[str] = field(default_factory=lambda: ["unix:///run/sampan/sampan.sock"])
    bridge: str = "sampan0"
    bip: str = "172.30.0.1/16"
    cgroup_parent: str = "/sampan"
    pidfile: Path | None = None
    log_level: str = "info"
    pool_size: int = 4
    runtimes: dict[str, str] = field(default_factory=dict)
    default_runtime: str = "sampan"

    @cached_property
    def containers(self) -> Path:
        """A directory for each container: writable layer, log."""
        return self.data_root / "containers"

    @cached_property
    def berths(self) -> Path:
        """Directories of containers yet to come."""
        return self.data_root / "berths"

    @cached_property
    def trash(self) -> Path:
        """What is removed lies here until a worker has deleted it."""
        return self.data_root / "trash"

    @cached_property
    def runs(self) -> Path:
        """A directory for each running container: its shim's socket, its exit status."""
        return self.exec_root / "containers"

    @cached_property
    def files(self) -> Path:
        """A directory for each running container: its generated files (/etc/hosts, …). On a tmpfs they cost nothing."""
        return self.exec_root / "files"
