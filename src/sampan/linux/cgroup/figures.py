"""What a group's accounting consists of, in one form for v1 and v2."""

from __future__ import annotations

from sampan.lean.record import dataclass, field


@dataclass
class Pressure:
    """PSI, v2 only (Documentation/accounting/psi.rst): percent of time stalled over 10, 60, 300 s; µs altogether."""

    some: dict[str, float] = field(default_factory=dict)
    full: dict[str, float] = field(default_factory=dict)


@dataclass
class Cpu:
    """Times in nanoseconds since the group was made. What is per cpu is empty on v2, which does not count it."""

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: list[int] = field(default_factory=list)
    per_cpu_user_ns: list[int] = field(default_factory=list)
    per_cpu_system_ns: list[int] = field(default_factory=list)
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0
    bursts: int = 0
    burst_ns: int = 0
    pressure: Pressure | None = None


@dataclass
class Counter:
    """One of the kernel's page counters, in bytes. `limit` None: none of its own; `failures`: how often it was hit."""

    usage: int = 0
    max_usage: int = 0
    limit: int | None = None
    failures: int = 0


@dataclass
class Memory:
    """Bytes. `limit` None: none of its own. `stat` is all of memory.stat.

    `usage` contains `cache`; what docker stats shows is usage - inactive_file. `failures`: how often the limit was hit.
    `swap_usage` is swap alone. v1: `both` counts memory and swap together (memory.memsw), `swap_limit` is its limit;
    `kernel` and `kernel_tcp` are parts of it. v2 has none of these three, and `swap_limit` is that of swap alone.
    """

    usage: int = 0
    max_usage: int = 0
    limit: int | None = None
    swap_usage: int = 0
    swap_limit: int | None = None
    cache: int = 0
    inactive_file: int = 0
    failures: int = 0
    oom_kills: int = 0
    stat: dict[str, int] = field(default_factory=dict)
    both: Counter | None = None
    kernel: Counter | None = None
    kernel_tcp: Counter | None = None
    hierarchical: bool = True
    pressure: Pressure | None = None


@dataclass
class Pids:
    """`limit` None: none of its own."""

    current: int = 0
    limit: int | None = None


@dataclass
class BlockEntry:
    """`operation` is Docker's: Read, Write, Sync, Async, Discard, Total (v1); read, write, discard (v2).

    "" where a file does not tell them apart (time, sectors).
    """

    major: int
    minor: int
    operation: str
    value: int


@dataclass
class Block:
    """Bytes and operations by device; BFQ's own figures are there only for devices that it schedules (v1)."""

    service_bytes: list[BlockEntry] = field(default_factory=list)
    serviced: list[BlockEntry] = field(default_factory=list)
    queued: list[BlockEntry] = field(default_factory=list)
    service_time: list[BlockEntry] = field(default_factory=list)
    wait_time: list[BlockEntry] = field(default_factory=list)
    merged: list[BlockEntry] = field(default_factory=list)
    time: list[BlockEntry] = field(default_factory=list)
    sectors: list[BlockEntry] = field(default_factory=list)
    pressure: Pressure | None = None


@dataclass
class RdmaDevice:
    """`None` as a limit: none."""

    device: str
    handles: int = 0
    objects: int = 0
    handle_limit: int | None = None
    object_limit: int | None = None


@dataclass
class Stats:
    """`hugetlb`: page size as in the files' names (2MB) → its counter."""

    cpu: Cpu = field(default_factory=Cpu)
    memory: Memory = field(default_factory=Memory)
    pids: Pids = field(default_factory=Pids)
    block: Block = field(default_factory=Block)
    hugetlb: dict[str, Counter] = field(default_factory=dict)
    rdma: list[RdmaDevice] = field(default_factory=list)


@dataclass(frozen=True)
class MemoryEvents:
    """`oom_kills`: processes of the group that the kernel killed for memory, whatever the reason.

    `limit_hits`: v2, how often the group's own limit could not be met by reclaim; v1, how often it was reached at all,
    looked at only where a process was killed.
    """

    oom_kills: int = 0
    limit_hits: int = 0

    @property
    def killed_by_own_limit(self) -> bool:
        """Killed by the limit of this group; false with `oom_kills` > 0 means the host, or a group above, ran out.

        On v1 a group that had reached its limit earlier and is killed by the host's OOM killer looks the same.
        """
        return self.oom_kills > 0 and self.limit_hits > 0
