"""The accounting files of v1's controllers (Documentation/admin-guide/cgroup-v1/)."""

from __future__ import annotations

from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.controlfile import number, text
from sampan.linux.cgroup.figures import Block, BlockEntry, Counter, Cpu, Memory


def cpu_usage(directory: str) -> Cpu:
    """cpuacct's part."""
    cpu = Cpu(
        usage_ns=number(directory, "cpuacct.usage") or 0,
        user_ns=number(directory, "cpuacct.usage_user") or 0,
        system_ns=number(directory, "cpuacct.usage_sys") or 0,
        per_cpu_ns=[int(value) for value in text(directory, "cpuacct.usage_percpu").split()],
    )
    for line in text(directory, "cpuacct.usage_all").splitlines()[1:]:  # "cpu user system", one a line
        _, user, system = (int(word) for word in line.split())
        cpu.per_cpu_user_ns.append(user)
        cpu.per_cpu_system_ns.append(system)
    return cpu


def add_throttling(cpu: Cpu, directory: str) -> None:
    """cpu's part."""
    values = controlfile.parse_flat(text(directory, "cpu.stat"))
    cpu.periods = values.get("nr_periods", 0)
    cpu.throttled_periods = values.get("nr_throttled", 0)
    cpu.throttled_ns = values.get("throttled_time", 0)
    cpu.bursts = values.get("nr_bursts", 0)
    cpu.burst_ns = values.get("burst_time", 0)


def counter(directory: str, name: str) -> Counter:
    """One page counter: NAME.usage_in_bytes and its kin."""
    return Counter(
        number(directory, f"{name}.usage_in_bytes") or 0,
        number(directory, f"{name}.max_usage_in_bytes") or 0,
        number(directory, f"{name}.limit_in_bytes"),
        number(directory, f"{name}.failcnt") or 0,
    )


def memory(directory: str) -> Memory:
    stat = controlfile.parse_flat(text(directory, "memory.stat"))
    alone = counter(directory, "memory")
    both = counter(directory, "memory.memsw") if text(directory, "memory.memsw.usage_in_bytes") else None
    return Memory(
        usage=alone.usage,
        max_usage=alone.max_usage,
        limit=alone.limit,
        swap_usage=max(0, both.usage - alone.usage) if both is not None else 0,
        swap_limit=both.limit if both is not None else None,
        cache=stat.get("total_cache", 0),
        inactive_file=stat.get("total_inactive_file", 0),
        failures=alone.failures + (both.failures if both is not None else 0),
        oom_kills=controlfile.parse_flat(text(directory, "memory.oom_control")).get("oom_kill", 0),
        stat=stat,
        both=both,
        kernel=counter(directory, "memory.kmem"),
        kernel_tcp=counter(directory, "memory.kmem.tcp"),
        hierarchical=text(directory, "memory.use_hierarchy").strip() == "1",
    )


def block(directory: str) -> Block:
    """Throttling counts bytes and operations for every scheduler; BFQ's files only for devices that it schedules."""

    def entries(name: str) -> list[BlockEntry]:
        return _entries(text(directory, f"blkio.{name}_recursive"))

    return Block(
        service_bytes=entries("throttle.io_service_bytes"), serviced=entries("throttle.io_serviced"),
        queued=entries("bfq.io_queued"), service_time=entries("bfq.io_service_time"),
        wait_time=entries("bfq.io_wait_time"), merged=entries("bfq.io_merged"), time=entries("bfq.time"),
        sectors=entries("bfq.sectors"),
    )


def _entries(lines: str) -> list[BlockEntry]:
    """Lines "8:0 Read 4096", or "8:0 4096", and "Total 4096" at the end."""
    entries = []
    for line in lines.splitlines():
        device, *words = line.split()
        major, colon, minor = device.partition(":")
        if colon and len(words) in (1, 2):
            entries.append(BlockEntry(int(major), int(minor), words[0] if len(words) == 2 else "", int(words[-1])))
    return entries
