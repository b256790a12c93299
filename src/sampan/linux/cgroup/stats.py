"""A group's accounting, read from its paths (`Group.paths`) by any process, without a Group.

What is not there (a controller not mounted, a file the kernel lacks, the group gone meanwhile) stays at its default.
"""

from __future__ import annotations

from sampan.lean.record import dataclass, field
from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.cgroupfs import UNIFIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Cpu:
    """Times in nanoseconds since the group was made. `per_cpu_ns` is empty on v2, which does not count it."""

    usage_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    per_cpu_ns: list[int] = field(default_factory=list)
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass
class Memory:
    """Bytes. `limit` None: none of its own. `stat` is all of memory.stat.

    `usage` contains `cache`; what docker stats shows is usage - inactive_file. `failures`: how often the limit was hit.
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


@dataclass
class Pids:
    current: int = 0
    limit: int | None = None


@dataclass
class BlockEntry:
    """`operation` is Docker's: Read, Write, Sync, Async, Discard, Total (v1); read, write (v2)."""

    major: int
    minor: int
    operation: str
    value: int


@dataclass
class Block:
    service_bytes: list[BlockEntry] = field(default_factory=list)
    serviced: list[BlockEntry] = field(default_factory=list)


@dataclass
class Stats:
    cpu: Cpu = field(default_factory=Cpu)
    memory: Memory = field(default_factory=Memory)
    pids: Pids = field(default_factory=Pids)
    block: Block = field(default_factory=Block)


@dataclass(frozen=True)
class MemoryEvents:
    """`oom_kills`: processes of the group that the kernel killed for memory, whatever the reason.

    `limit_hits`: v2, how often the group's own limit could not be met by reclaim; v1, how often it was reached at all.
    """

    oom_kills: int = 0
    limit_hits: int = 0

    @property
    def killed_by_own_limit(self) -> bool:
        """Killed by the limit of this group; false with `oom_kills` > 0 means the host, or a group above, ran out.

        On v1 a group that had reached its limit earlier and is killed by the host's OOM killer looks the same.
        """
        return self.oom_kills > 0 and self.limit_hits > 0


_CHARGE_BATCH = 256 << 10  # the kernel charges up to 64 pages at once, and gives back what it cannot have


def read(paths: Mapping[str, str]) -> Stats:
    """All accounting of a group; about 15 small files, 0.2 ms."""
    stats = Stats()
    unified = paths.get(UNIFIED, "")
    if "cpuacct" in paths:
        _cpuacct_v1(paths["cpuacct"], stats.cpu)
    elif unified:
        _cpu_v2(unified, stats.cpu)
    if "cpu" in paths:
        throttled = controlfile.parse_flat(_text(paths["cpu"], "cpu.stat"))
        stats.cpu.periods = throttled.get("nr_periods", 0)
        stats.cpu.throttled_periods = throttled.get("nr_throttled", 0)
        stats.cpu.throttled_ns = throttled.get("throttled_time", 0)
    if "memory" in paths:
        stats.memory = _memory_v1(paths["memory"])
    elif unified:
        stats.memory = _memory_v2(unified)
    if pids := paths.get("pids", unified):
        stats.pids = Pids(_number(pids, "pids.current") or 0, _number(pids, "pids.max"))
    if "blkio" in paths:
        stats.block = _block_v1(paths["blkio"])
    elif unified:
        stats.block = _block_v2(unified)
    return stats


def memory_events(paths: Mapping[str, str]) -> MemoryEvents:
    """Why the kernel killed, if it did: see MemoryEvents. Read it before the group is removed."""
    directory = paths.get("memory")
    if directory is not None:
        hits = (_number(directory, "memory.failcnt") or 0) + (_number(directory, "memory.memsw.failcnt") or 0)
        hits += _was_full(directory, "memory") + _was_full(directory, "memory.memsw")
        control = controlfile.parse_flat(_text(directory, "memory.oom_control"))
        return MemoryEvents(control.get("oom_kill", 0), hits)
    events = controlfile.parse_flat(_text(paths.get(UNIFIED, ""), "memory.events"))
    return MemoryEvents(events.get("oom_kill", 0), events.get("oom", 0))


def _was_full(directory: str, counter: str) -> bool:
    """Whether usage has been at the limit: newer kernels (6.18 seen) leave v1's failcnt at 0 when a charge fails."""
    limit = _number(directory, f"{counter}.limit_in_bytes")
    highest = _number(directory, f"{counter}.max_usage_in_bytes")
    return limit is not None and highest is not None and limit - highest < _CHARGE_BATCH


def oom_kills(paths: Mapping[str, str]) -> int:
    """How many processes of the group the kernel killed for memory."""
    return memory_events(paths).oom_kills


def _text(directory: str, name: str) -> str:
    try:
        return controlfile.read(directory, name)
    except OSError:  # ENOENT, ENODEV: the group is gone or the kernel lacks the file
        return ""


def _number(directory: str, name: str) -> int | None:
    text = _text(directory, name).strip()
    if not text.isdigit():
        return None
    number = int(text)
    return None if number >= controlfile.UNLIMITED_V1 else number


def _cpuacct_v1(directory: str, cpu: Cpu) -> None:
    cpu.usage_ns = _number(directory, "cpuacct.usage") or 0
    cpu.user_ns = _number(directory, "cpuacct.usage_user") or 0
    cpu.system_ns = _number(directory, "cpuacct.usage_sys") or 0
    cpu.per_cpu_ns = [int(value) for value in _text(directory, "cpuacct.usage_percpu").split()]


def _cpu_v2(directory: str, cpu: Cpu) -> None:
    values = controlfile.parse_flat(_text(directory, "cpu.stat"))
    cpu.usage_ns = values.get("usage_usec", 0) * 1000
    cpu.user_ns = values.get("user_usec", 0) * 1000
    cpu.system_ns = values.get("system_usec", 0) * 1000
    cpu.periods = values.get("nr_periods", 0)
    cpu.throttled_periods = values.get("nr_throttled", 0)
    cpu.throttled_ns = values.get("throttled_usec", 0) * 1000


def _memory_v1(directory: str) -> Memory:
    stat = controlfile.parse_flat(_text(directory, "memory.stat"))
    usage = _number(directory, "memory.usage_in_bytes") or 0
    both = _number(directory, "memory.memsw.usage_in_bytes")
    return Memory(
        usage=usage,
        max_usage=_number(directory, "memory.max_usage_in_bytes") or 0,
        limit=_number(directory, "memory.limit_in_bytes"),
        swap_usage=max(0, both - usage) if both is not None else 0,
        swap_limit=_number(directory, "memory.memsw.limit_in_bytes"),
        cache=stat.get("total_cache", 0),
        inactive_file=stat.get("total_inactive_file", 0),
        failures=(_number(directory, "memory.failcnt") or 0) + (_number(directory, "memory.memsw.failcnt") or 0),
        oom_kills=controlfile.parse_flat(_text(directory, "memory.oom_control")).get("oom_kill", 0),
        stat=stat,
    )


def _memory_v2(directory: str) -> Memory:
    stat = controlfile.parse_flat(_text(directory, "memory.stat"))
    events = controlfile.parse_flat(_text(directory, "memory.events"))
    return Memory(
        usage=_number(directory, "memory.current") or 0,
        max_usage=_number(directory, "memory.peak") or 0,
        limit=_number(directory, "memory.max"),
        swap_usage=_number(directory, "memory.swap.current") or 0,
        swap_limit=_number(directory, "memory.swap.max"),
        cache=stat.get("file", 0),
        inactive_file=stat.get("inactive_file", 0),
        failures=events.get("max", 0),
        oom_kills=events.get("oom_kill", 0),
        stat=stat,
    )


def _block_v1(directory: str) -> Block:
    """Throttling counts for every scheduler; BFQ's own files only for devices that it schedules."""
    return Block(
        _block_entries_v1(_text(directory, "blkio.throttle.io_service_bytes_recursive")),
        _block_entries_v1(_text(directory, "blkio.throttle.io_serviced_recursive")),
    )


def _block_entries_v1(text: str) -> list[BlockEntry]:
    entries = []
    for line in text.splitlines():  # "8:0 Read 4096", and "Total 4096" at the end
        words = line.split()
        if len(words) == 3 and ":" in words[0]:
            major, _, minor = words[0].partition(":")
            entries.append(BlockEntry(int(major), int(minor), words[1], int(words[2])))
    return entries


def _block_v2(directory: str) -> Block:
    block = Block(service_bytes=[], serviced=[])
    for line in _text(directory, "io.stat").splitlines():  # "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        for key, operation, entries in (
            ("rbytes", "read", block.service_bytes),
            ("wbytes", "write", block.service_bytes),
            ("rios", "read", block.serviced),
            ("wios", "write", block.serviced),
        ):
            if values.get(key, "").isdigit():
                entries.append(BlockEntry(int(major), int(minor), operation, int(values[key])))
    return block
