"""`docker stats`: a container's accounting, once a second, in Docker's schema."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from sampan.engine import host, lifecycle, networking, timestamps
from sampan.engine.container import Container
from sampan.linux.cgroup import stats as accounting

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_RECEIVED = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped")
_SENT = ("tx_bytes", "tx_packets", "tx_errors", "tx_dropped")
_INTERVAL = 1.0

Sample = dict[str, Any]


async def stream(container: Container, follow: bool, one_shot: bool) -> AsyncIterator[Sample]:
    """With `follow` an answer each second until the container is removed. Without, one answer: of now (`one_shot`), or
    with the second before it, so that rates can be computed. A container that does not run has zeros.
    """
    before: Sample | None = None
    now = sample(container)
    if follow or one_shot or not container.alive:
        yield joined(container, None, now)
    while (follow and container.record.status != lifecycle.REMOVING) or (before is None and _once(container, one_shot)):
        await asyncio.sleep(_INTERVAL)  # a rate needs an interval: this one is Docker's
        before, now = now, sample(container)
        yield joined(container, before, now)


def _once(container: Container, one_shot: bool) -> bool:
    return container.alive and not one_shot


def sample(container: Container) -> Sample:
    """What the kernel counted so far."""
    record = container.record
    now = timestamps.rfc3339(time.time_ns())
    if not container.alive:
        return {
            "read": timestamps.ZERO, "pids_stats": {}, "blkio_stats": _blkio(accounting.Block()),
            "cpu_stats": _cpu(accounting.Cpu()) | {"system_cpu_usage": 0}, "memory_stats": {}, "networks": {},
        }
    read = accounting.read(record.cgroups)
    memory = read.memory
    return {
        "read": now, "pids_stats": {"current": read.pids.current} | (
            {"limit": read.pids.limit} if read.pids.limit is not None else {}
        ),
        "blkio_stats": _blkio(read.block), "cpu_stats": _cpu(read.cpu),
        "memory_stats": {
            "usage": memory.usage, "max_usage": memory.max_usage, "stats": memory.stat, "failcnt": memory.failures,
            "limit": memory.limit if memory.limit is not None else host.memory_total(),
        },
        "networks": networks(container),
    }


def joined(container: Container, before: Sample | None, now: Sample) -> Sample:
    """One answer of the API from two samples."""
    answer = {
        **now, "name": f"/{container.name}", "id": container.id, "num_procs": 0, "storage_stats": {},
        "preread": before["read"] if before else timestamps.ZERO,
        "precpu_stats": before["cpu_stats"] if before else {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        },
    }
    if not answer["networks"]:
        del answer["networks"]
    return answer


def _cpu(cpu: accounting.Cpu) -> Sample:
    usage: Sample = {
        "total_usage": cpu.usage_ns, "usage_in_kernelmode": cpu.system_ns, "usage_in_usermode": cpu.user_ns,
    }
    if cpu.per_cpu_ns:
        usage["percpu_usage"] = cpu.per_cpu_ns
    return {
        "cpu_usage": usage, "system_cpu_usage": _system_cpu(), "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": cpu.periods, "throttled_periods": cpu.throttled_periods, "throttled_time": cpu.throttled_ns,
        },
    }


def _system_cpu() -> int:
    """Nanoseconds that all CPUs of the host have spent, idle included: proc(5), /proc/stat, without guest times."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return sum(int(ticks) for ticks in fields[1:9]) * _TICK


def _blkio(block: accounting.Block) -> Sample:
    return {
        "io_service_bytes_recursive": _entries(block.service_bytes) or None,
        "io_serviced_recursive": _entries(block.serviced) or None, "io_queue_recursive": None,
        "io_service_time_recursive": None, "io_wait_time_recursive": None, "io_merged_recursive": None,
        "io_time_recursive": None, "sectors_recursive": None,
    }


def _entries(entries: list[accounting.BlockEntry]) -> list[Sample]:
    return [{"major": it.major, "minor": it.minor, "op": it.operation, "value": it.value} for it in entries]


def networks(container: Container) -> dict[str, dict[str, int]]:
    """The counters of the container's own devices; nothing when it uses the host's or another one's network."""
    if container.shim is None or networking.mode(container.record) != "bridge":
        return {}
    try:
        with open(f"/proc/{container.shim.pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    found = {}
    for line in lines:  # "eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop …"
        name, _, numbers = line.partition(":")
        values = [int(number) for number in numbers.split()]
        if name.strip() != "lo":
            found[name.strip()] = dict(zip((*_RECEIVED, *_SENT), (*values[:4], *values[8:12]), strict=True))
    return found
