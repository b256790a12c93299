"""What happens to a container, as events in runc's JSON form: its accounting now and then, memory that ran out.

    {"type":"stats","id":"…","data":{"cpu":…,"memory":…,"pids":…,"blkio":…,"hugetlb":…}}
    {"type":"oom","id":"…"}

As in runc, what is 0 or empty is left out in most places. Times are nanoseconds, sizes bytes.
"""

from __future__ import annotations

import os
import select
import time

from sampan.errors import Conflict, NotFound, Unsupported
from sampan.linux.cgroup import oom, stats
from sampan.runtime.lifecycle import cpusets, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.runtime.lifecycle.records import Entry, Record

_NO_LIMIT_V1, _NO_LIMIT_V2 = 0x7FFFFFFFFFFFF000, 2**64 - 1  # what the kernel, and runc for v2, say for "none"
_LONGEST = 2_000_000  # seconds: poll(2) counts milliseconds in an int
_BLOCK = {
    "ioServiceBytesRecursive": "service_bytes", "ioServicedRecursive": "serviced", "ioQueueRecursive": "queued",
    "ioServiceTimeRecursive": "service_time", "ioWaitTimeRecursive": "wait_time", "ioMergedRecursive": "merged",
    "ioTimeRecursive": "time", "sectorsRecursive": "sectors",
}


def current(entry: Entry) -> dict[str, object]:
    """One "stats" event. Raises Conflict when the container does not run, Unsupported when it has no cgroup."""
    return _stats(entry.id, _paths(entry, _running(entry)))


def follow(entry: Entry, interval: float) -> Iterator[dict[str, object]]:
    """A "stats" event every `interval` seconds and an "oom" event for each time memory ran out, until the container
    ends. Raises as `current`.
    """
    record = _running(entry)
    paths = _paths(entry, record)
    try:
        pidfd = status.open_pidfd(record)
    except NotFound:
        return
    watch: oom.OomEvents | None = None
    try:
        watch = _watch(paths)
        yield from _until_end(entry.id, paths, interval, pidfd, watch)
    finally:
        os.close(pidfd)
        if watch is not None:
            watch.close()


def _running(entry: Entry) -> Record:
    record = entry.read()
    if status.of(entry, record) == status.STOPPED:
        raise Conflict(f"container with id {entry.id} is not running")
    return record


def _paths(entry: Entry, record: Record) -> dict[str, str]:
    group = entry.group(record)
    if group is None:
        raise Unsupported(f"container {entry.id} has no cgroup of its own: nothing counts what it uses")
    return group.paths()


def _watch(paths: dict[str, str]) -> oom.OomEvents | None:
    try:
        return oom.OomEvents(paths)
    except (Unsupported, FileNotFoundError):
        return None  # no memory controller: it cannot run out of its own memory; or the group is gone by now


def _until_end(
    container_id: str, paths: dict[str, str], interval: float, pidfd: int, watch: oom.OomEvents | None
) -> Iterator[dict[str, object]]:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if watch is not None:
        poll.register(watch.fd, select.POLLIN)
    due = time.monotonic() + interval
    while True:
        ready = {fd for fd, _ in poll.poll(min(max(0.0, due - time.monotonic()), _LONGEST) * 1000)}
        if watch is not None and watch.fd in ready:
            new = watch.take()
            for _ in range(new or 0):
                yield {"type": "oom", "id": container_id}
            if new is None:
                return
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            due += interval
            yield _stats(container_id, paths)


def _stats(container_id: str, paths: dict[str, str]) -> dict[str, object]:
    found = stats.read(paths)
    return {"type": "stats", "id": container_id, "data": {
        "cpu": _cpu(found.cpu),
        "cpuset": cpusets.read(paths),
        "memory": _memory(found.memory, _NO_LIMIT_V1 if "memory" in paths else _NO_LIMIT_V2),
        "pids": _present({"current": found.pids.current, "limit": found.pids.limit}),
        "blkio": _block(found.block),
        "hugetlb": {
            size: {**_present({"usage": counter.usage, "max": counter.max_usage}), "failcnt": counter.failures}
            for size, counter in found.hugetlb.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }}


def _cpu(cpu: stats.Cpu) -> dict[str, object]:
    usage = _present({
        "total": cpu.usage_ns, "percpu": cpu.per_cpu_ns, "percpu_kernel": cpu.per_cpu_system_ns,
        "percpu_user": cpu.per_cpu_user_ns,
    })
    throttling = {
        "periods": cpu.periods, "throttledPeriods": cpu.throttled_periods, "throttledTime": cpu.throttled_ns,
    }
    shown: dict[str, object] = {
        "usage": {**usage, "kernel": cpu.system_ns, "user": cpu.user_ns}, "throttling": _present(throttling),
    }
    return shown | _pressure(cpu.pressure)


def _memory(memory: stats.Memory, none: int) -> dict[str, object]:
    """`swap` counts memory and swap together, on v2 as well: as runc shows it."""
    alone = stats.Counter(memory.usage, memory.max_usage, memory.limit, memory.failures)
    both = memory.both
    if both is None:
        unlimited = memory.limit is None or memory.swap_limit is None
        limit = None if unlimited else (memory.limit or 0) + (memory.swap_limit or 0)
        both = stats.Counter(memory.usage + memory.swap_usage, 0, limit)
    elif both.failures:
        alone.failures -= both.failures  # `failures` is the sum of both
    shown: dict[str, object] = _present({"cache": memory.cache})
    shown |= {"usage": _counter(alone, none), "swap": _counter(both, none)}
    shown |= {
        "kernel": _counter(memory.kernel or stats.Counter(limit=0), none),
        "kernelTCP": _counter(memory.kernel_tcp or stats.Counter(limit=0), none),
    }
    if memory.stat:
        shown["raw"] = memory.stat
    return shown | _pressure(memory.pressure)


def _counter(counter: stats.Counter, none: int) -> dict[str, object]:
    limit = none if counter.limit is None else counter.limit
    parts = _present({"usage": counter.usage, "max": counter.max_usage})
    return {"limit": limit, **parts, "failcnt": counter.failures}


def _block(block: stats.Block) -> dict[str, object]:
    shown: dict[str, object] = {}
    for name, attribute in _BLOCK.items():
        entries: list[stats.BlockEntry] = getattr(block, attribute)
        if entries:
            shown[name] = [
                _present({"major": each.major, "minor": each.minor, "op": each.operation, "value": each.value})
                for each in entries
            ]
    return shown | _pressure(block.pressure)


def _pressure(pressure: stats.Pressure | None) -> dict[str, object]:
    return {} if pressure is None else {"psi": {"some": pressure.some, "full": pressure.full}}


def _present(members: Mapping[str, object]) -> dict[str, object]:
    """Without what Go's `omitempty` leaves out."""
    return {name: value for name, value in members.items() if value}
