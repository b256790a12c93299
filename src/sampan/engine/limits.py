"""Are the limits of a HostConfig possible on this host? Docker's checks and words, at creation and at update."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sampan.errors import InvalidArgument

_SMALLEST = 6 << 20  # bytes of memory a container needs to start at all: Docker's bound
_MAX_CPU = 8192  # the kernel's NR_CPUS; a giant number must not become a giant list (CVE-2018-20699)


def check(host_config: Mapping[str, Any]) -> list[str]:
    """Raises InvalidArgument for what cannot be; returns warnings for what will be ignored."""
    _memory(host_config)
    _cpu(host_config)
    _sets(host_config)
    if host_config.get("ShmSize", 0) < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    weight = host_config.get("BlkioWeight", 0)
    if weight and not 10 <= weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    return _warnings(host_config)


def _warnings(host_config: Mapping[str, Any]) -> list[str]:
    if host_config.get("OomKillDisable") and not host_config.get("Memory"):
        return ["OOM killer is disabled for the container, but no memory limit is set, this can result in the "
                "system running out of resources."]
    return []


def _memory(host_config: Mapping[str, Any]) -> None:
    memory, swap = host_config.get("Memory", 0), host_config.get("MemorySwap", 0)
    reservation, swappiness = host_config.get("MemoryReservation", 0), host_config.get("MemorySwappiness")
    if memory and memory < _SMALLEST:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if swap > 0 and not memory:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if memory and 0 < swap < memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if swappiness is not None and swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if reservation and reservation < _SMALLEST:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if memory and reservation and memory < reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def _cpu(host_config: Mapping[str, Any]) -> None:
    nano, period, quota = (host_config.get(name, 0) for name in ("NanoCpus", "CpuPeriod", "CpuQuota"))
    if nano and period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano and quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    cpus = os.cpu_count() or 1
    if nano and not 10_000_000 <= nano <= cpus * 1_000_000_000:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host_config.get("CpuShares", 0) < 0:
        raise InvalidArgument("invalid CPU shares: they cannot be negative")


def _sets(host_config: Mapping[str, Any]) -> None:
    cpus, mems = host_config.get("CpusetCpus") or "", host_config.get("CpusetMems") or ""
    if cpus:
        asked = _members(cpus, f"Invalid value {cpus} for cpuset cpus")
        available = Path("/sys/devices/system/cpu/online").read_text().strip()
        if not asked <= _members(available, available):
            raise InvalidArgument(f"Requested CPUs are not available - requested {cpus}, available: {available}")
    if mems:
        asked = _members(mems, f"Invalid value {mems} for cpuset mems")
        available = _nodes()
        if not asked <= _members(available, available):
            raise InvalidArgument(
                f"Requested memory nodes are not available - requested {mems}, available: {available}"
            )


def _nodes() -> str:
    try:
        return Path("/sys/devices/system/node/online").read_text().strip()
    except FileNotFoundError:  # a kernel without NUMA has the one node
        return "0"


def _members(text: str, refusal: str) -> set[int]:
    """"0-2,5" as numbers. Raises InvalidArgument."""
    members: set[int] = set()
    for first, last in _ranges(text, refusal):
        members.update(range(first, last + 1))
    return members


def _ranges(text: str, refusal: str) -> Iterable[tuple[int, int]]:
    for part in text.split(","):
        first, separator, last = part.strip().partition("-")
        if not (first.isdecimal() and (not separator or last.isdecimal()) and max(len(first), len(last)) < 6):
            raise InvalidArgument(refusal)
        low, high = int(first), int(last or first)
        if not low <= high < _MAX_CPU:
            raise InvalidArgument(refusal)
        yield low, high
