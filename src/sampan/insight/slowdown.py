"""Who slows a container down: its own limits, its neighbours, or a lack of memory. Watched for a moment."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass
from pathlib import Path

from sampan.linux.cgroup import stats

MOMENT_MS = 250
MUCH = 0.1
UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Watched:
    """What was seen during the moment. CPUs are in CPUs (0.5 is half of one), pressure in percent of the time."""

    cpus: float
    quota: float | None
    periods: int
    throttled: int
    neighbours: list[tuple[str, float]]
    host_busy: float
    host_cpus: int
    pressure: dict[str, float]
    memory: stats.Memory


def watch(paths: dict[str, str], quota: float | None) -> Watched:
    """Looks at a group (controller → directory) twice, a quarter of a second apart. Raises OSError."""
    siblings = _siblings(paths)
    began = time.monotonic()
    before, ours, host = {name: _cpu(path) for name, path in siblings.items()}, stats.read(paths), _host_busy()
    select.poll().poll(MOMENT_MS)
    after, ours_after = {name: _cpu(path) for name, path in siblings.items()}, stats.read(paths)
    host_after = _host_busy()
    took = time.monotonic() - began
    used = {name: (after[name] - before[name]) / 1e9 / took for name in siblings}
    busy = sorted(((name, share) for name, share in used.items() if share >= 0.01), key=lambda item: -item[1])
    return Watched(
        cpus=(ours_after.cpu.usage_ns - ours.cpu.usage_ns) / 1e9 / took,
        quota=quota,
        periods=ours_after.cpu.periods - ours.cpu.periods,
        throttled=ours_after.cpu.throttled_periods - ours.cpu.throttled_periods,
        neighbours=busy[:5],
        host_busy=(host_after - host) / took,
        host_cpus=os.cpu_count() or 1,
        pressure=_pressure(paths),
        memory=ours_after.memory,
    )


def _siblings(paths: dict[str, str]) -> dict[str, dict[str, str]]:
    """The groups beside this one: name → paths for its CPU accounting."""
    kind = "cpuacct" if "cpuacct" in paths else "unified"
    if kind not in paths:
        return {}
    own = Path(paths[kind])
    return {
        entry.name: {kind: str(entry)} for entry in own.parent.iterdir() if entry.is_dir() and entry.name != own.name
    }


def _cpu(paths: dict[str, str]) -> int:
    return stats.read(paths).cpu.usage_ns


def _host_busy() -> float:
    """Seconds that all CPUs together were busy since boot (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:9]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK")


def _pressure(paths: dict[str, str]) -> dict[str, float]:
    """cpu, memory, io → percent of the last ten seconds in which something waited (PSI): the group's on v2, else the
    host's."""
    found = {}
    for what in ("cpu", "memory", "io"):
        for path in (f"{paths.get('unified', '/nowhere')}/{what}.pressure", f"/proc/pressure/{what}"):
            try:
                with open(path, encoding="ascii") as file:
                    found[what] = float(file.readline().split("avg10=")[1].split()[0])
                break
            except (OSError, IndexError):
                continue
    return found


def sentences(seen: Watched, shares: int) -> list[str]:
    """What that means. `shares` is the container's --cpu-shares (0: the default)."""
    said = [_cpu_sentence(seen)]
    if seen.neighbours and seen.host_busy > seen.host_cpus * 0.9 and not seen.throttled:
        names = ", ".join(f"{name[:12]} ({share:.2f})" for name, share in seen.neighbours)
        said.append(
            f"All {seen.host_cpus} CPUs of the host are busy; beside it run {names}. Then --cpu-shares decides: "
            f"this one has {shares or 1024}."
        )
    return [*said, *_memory_sentences(seen)]


def _cpu_sentence(seen: Watched) -> str:
    limit = f" of its limit of {seen.quota:g} (--cpus)" if seen.quota else " and has no limit"
    text = f"In the last quarter of a second it used {seen.cpus:.2f} CPUs{limit}"
    if seen.throttled:
        return (
            f"{text}. It was throttled in {seen.throttled} of {seen.periods} periods: its own limit is what slows it. "
            "`sampan update --cpus …` changes it."
        )
    return f"{text}; it was not throttled."


def _memory_sentences(seen: Watched) -> list[str]:
    memory, said = seen.memory, []
    if memory.limit and memory.limit < UNLIMITED:
        share = (memory.usage - memory.inactive_file) / memory.limit
        said.append(
            f"It holds {memory.usage / (1 << 20):.1f} MiB of the {memory.limit / (1 << 20):.0f} MiB it may have "
            f"({share:.0%} without cached files that can be dropped)."
        )
    if memory.failures:
        said.append(
            f"It has hit its memory limit {memory.failures} times: each time the kernel had to take pages back "
            "before it could go on."
        )
    if memory.oom_kills:
        said.append(f"{memory.oom_kills} of its processes were killed for lack of memory.")
    waits = {what: share for what, share in seen.pressure.items() if share >= MUCH}
    if waits:
        text = ", ".join(f"{share:.0f}% for {what}" for what, share in waits.items())
        said.append(f"In the last ten seconds tasks waited {text}.")
    return said
