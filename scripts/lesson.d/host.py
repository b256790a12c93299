"""The host before and after: all that a container engine could leave behind, and whether it is this lesson's."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("processes", "mounts", "cgroups", "network devices", "nft tables", "files", "settings")


def take() -> dict[str, frozenset[str]]:
    return dict(zip(KINDS, map(frozenset, (
        _descendants(), _mounts(), _cgroups(), _devices(), _nft_tables(), _files(), _settings(),
    )), strict=True))


@dataclass
class Watch:
    """From `begin` to `left`. Other things happen on a host meanwhile: ours is what carries one of `marks` (the
    lesson's directory and bridge, container ids), and every device that was ever on our bridge."""

    bridge: str
    marks: set[str]
    before: dict[str, frozenset[str]] = field(default_factory=take)
    devices: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._monitor = subprocess.Popen(
            ["ip", "-oneline", "monitor", "link"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )

    def left(self, seconds: float = 5) -> dict[str, frozenset[str]]:
        """New things of ours by kind. The kernel removes a dead container's devices a moment later: waits for that."""
        deadline = time.monotonic() + seconds
        self._read_monitor(0)
        while (remains := self._ours()) and deadline > time.monotonic():
            self._read_monitor(min(0.1, deadline - time.monotonic()))
        return remains

    def others(self) -> list[str]:
        now = take()
        news = ((kind, thing) for kind in KINDS for thing in now[kind] - self.before[kind])
        return sorted(f"{kind}: {thing}" for kind, thing in news if not self._is_ours(kind, thing))

    def close(self) -> None:
        self._monitor.kill()
        self._monitor.communicate()

    def _ours(self) -> dict[str, frozenset[str]]:
        now = take()
        news = {kind: frozenset(x for x in now[kind] - self.before[kind] if self._is_ours(kind, x)) for kind in KINDS}
        return {kind: things for kind, things in news.items() if things}

    def _is_ours(self, kind: str, thing: str) -> bool:
        if kind == "processes":
            return not thing.endswith(f" {self._monitor.pid}")
        return kind == "settings" or thing in self.devices or any(mark in thing for mark in self.marks)

    def _read_monitor(self, seconds: float) -> None:
        assert self._monitor.stdout is not None
        while select.select([self._monitor.stdout], [], [], seconds)[0]:
            text = os.read(self._monitor.stdout.fileno(), 1 << 20).decode()
            if not text:
                return
            for line in text.splitlines():
                if f" master {self.bridge} " in line and (found := re.match(r"(?:Deleted )?\d+: ([^:@]+)", line)):
                    self.devices.add(found[1])
            seconds = 0


def _descendants() -> Iterator[str]:
    """Our own, orphans included: the lesson made itself their reaper."""
    parents, names = {}, {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, _, rest = stat.partition(" (")[2].rpartition(") ")
        state, parent = rest.split()[:2]
        if state not in "ZX":
            parents[int(directory.name)], names[int(directory.name)] = int(parent), name
    for pid, name in names.items():
        above = parents[pid]
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            yield f"{name} {pid}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        yield f"{before.split()[4]} ({after})"


def _cgroups() -> Iterator[str]:
    for path, _, _ in os.walk("/sys/fs/cgroup"):
        yield path


def remove_cgroups(name: str) -> None:
    """Of that name, at the top of any hierarchy, and what is below. Those in use stay."""
    for path in sorted((path for path in _cgroups() if f"/{name}" in path), key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def remove_network(bridge: str) -> None:
    """The bridge and the nft table of an engine that could not do it itself."""
    if bridge in _devices():
        subprocess.run(["ip", "link", "del", bridge])
    for table in _nft_tables():
        if table.endswith(f"_{bridge}"):
            subprocess.run(["nft", f"delete {table}"])


def _devices() -> list[str]:
    return os.listdir("/sys/class/net")


def _nft_tables() -> list[str]:
    return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout.splitlines()


def _files() -> Iterator[str]:
    for directory in ("/run", "/tmp", "/var/lib", "/var/run/netns"):
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            yield f"{directory}/{name}"


def _settings() -> Iterator[str]:
    for name in ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv6/conf/all/forwarding"):
        path = Path("/proc/sys", name)
        if path.exists():
            yield f"{name} = {path.read_text().strip()}"
