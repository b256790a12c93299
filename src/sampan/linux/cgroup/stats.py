"""A group's accounting, read from its paths (`Group.paths`) by any process, without a Group.

What is not there (a controller not mounted, a file the kernel lacks, the group gone meanwhile) stays at its default.
"""

from __future__ import annotations

import os

from sampan.linux.cgroup import controlfile, stats_v1, stats_v2
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.cgroup.controlfile import number, text
from sampan.linux.cgroup.figures import (
    Block,
    BlockEntry,
    Counter,
    Cpu,
    Memory,
    MemoryEvents,
    Pids,
    Pressure,
    RdmaDevice,
    Stats,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Block", "BlockEntry", "Counter", "Cpu", "Memory", "MemoryEvents", "Pids", "Pressure", "RdmaDevice", "Stats",
    "memory_events", "oom_kills", "read",
]

_CHARGE_BATCH = 256 << 10  # the kernel charges up to 64 pages at once, and gives back what it cannot have


def read(paths: Mapping[str, str]) -> Stats:
    """All accounting of a group; 15 to 30 small files, 0.3 ms."""
    stats = Stats()
    unified = paths.get(UNIFIED, "")
    if "cpuacct" in paths:
        stats.cpu = stats_v1.cpu_usage(paths["cpuacct"])
    elif unified:
        stats.cpu = stats_v2.cpu(unified)
    if "cpu" in paths:
        stats_v1.add_throttling(stats.cpu, paths["cpu"])
    if "memory" in paths:
        stats.memory = stats_v1.memory(paths["memory"])
    elif unified:
        stats.memory = stats_v2.memory(unified)
    if pids := paths.get("pids", unified):
        stats.pids = Pids(number(pids, "pids.current") or 0, number(pids, "pids.max"))
    if "blkio" in paths:
        stats.block = stats_v1.block(paths["blkio"])
    elif unified:
        stats.block = stats_v2.block(unified)
    if hugetlb := paths.get("hugetlb", unified):
        stats.hugetlb = _hugetlb(hugetlb, v2="hugetlb" not in paths)
    if rdma := paths.get("rdma", unified):
        stats.rdma = _rdma(text(rdma, "rdma.current"), text(rdma, "rdma.max"))
    return stats


def memory_events(paths: Mapping[str, str]) -> MemoryEvents:
    """Why the kernel killed, if it did: see MemoryEvents. Read it before the group is removed."""
    directory = paths.get("memory")
    if directory is not None:
        kills = controlfile.parse_flat(text(directory, "memory.oom_control")).get("oom_kill", 0)
        if not kills:
            return MemoryEvents()  # the usual case, which every container's end waits for
        hits = (number(directory, "memory.failcnt") or 0) + (number(directory, "memory.memsw.failcnt") or 0)
        hits += _was_full(directory, "memory") + _was_full(directory, "memory.memsw")
        return MemoryEvents(kills, hits)
    events = controlfile.parse_flat(text(paths.get(UNIFIED, ""), "memory.events"))
    return MemoryEvents(events.get("oom_kill", 0), events.get("oom", 0))


def _was_full(directory: str, counter: str) -> bool:
    """Whether usage has been at the limit: newer kernels (6.18 seen) leave v1's failcnt at 0 when a charge fails."""
    limit = number(directory, f"{counter}.limit_in_bytes")
    highest = number(directory, f"{counter}.max_usage_in_bytes")
    return limit is not None and highest is not None and limit - highest < _CHARGE_BATCH


def oom_kills(paths: Mapping[str, str]) -> int:
    """How many processes of the group the kernel killed for memory."""
    return memory_events(paths).oom_kills


def _hugetlb(directory: str, v2: bool) -> dict[str, Counter]:
    limit_file = "max" if v2 else "limit_in_bytes"
    try:
        names = sorted(os.listdir(directory))
    except OSError:  # the group is gone
        return {}
    found: dict[str, Counter] = {}
    for name in names:  # hugetlb.2MB.max, but not hugetlb.2MB.rsvd.max
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "hugetlb" and parts[2] == limit_file:
            read_one = stats_v2.hugetlb if v2 else stats_v1.counter
            found[parts[1]] = read_one(directory, f"hugetlb.{parts[1]}")
    return found


def _rdma(current: str, limits: str) -> list[RdmaDevice]:
    """Lines "mlx4_0 hca_handle=2 hca_object=2000"; "max" is no limit."""
    used, allowed = _rdma_lines(current), _rdma_lines(limits)
    return [
        RdmaDevice(
            name, used.get(name, {}).get("hca_handle") or 0, used.get(name, {}).get("hca_object") or 0,
            allowed.get(name, {}).get("hca_handle"), allowed.get(name, {}).get("hca_object"),
        )
        for name in dict.fromkeys([*used, *allowed])
    ]


def _rdma_lines(lines: str) -> dict[str, dict[str, int | None]]:
    found: dict[str, dict[str, int | None]] = {}
    for line in lines.splitlines():
        name, *pairs = line.split()
        values = [pair.partition("=") for pair in pairs]
        found[name] = {key: int(value) if value.isdigit() else None for key, _, value in values}
    return found
