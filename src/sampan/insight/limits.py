"""A group's limits as the kernel has them now, in one form for v1 and v2."""

from __future__ import annotations

from dataclasses import dataclass

from sampan.linux.cgroup import controlfile, limits_v2

UNLIMITED_V1 = 1 << 62


@dataclass(frozen=True)
class Limits:
    """None: no limit, or the controller is not there. Bytes; CPUs (0.5 is half of one); `shares` as Docker's."""

    memory: int | None = None
    memory_swap: int | None = None
    reservation: int | None = None
    pids: int | None = None
    cpus: float | None = None
    shares: int | None = None
    cpuset: str = ""


def read(paths: dict[str, str]) -> Limits:
    """`paths`: controller → directory, "unified" for v2 (as State.Cgroups has them). Raises OSError."""
    if "memory" not in paths and "cpu" not in paths and "unified" in paths:
        return _v2(paths["unified"])
    memory, cpu = paths.get("memory"), paths.get("cpu")
    quota, period = _number(cpu, "cpu.cfs_quota_us"), _number(cpu, "cpu.cfs_period_us")
    return Limits(
        memory=_bounded(_number(memory, "memory.limit_in_bytes")),
        memory_swap=_bounded(_number(memory, "memory.memsw.limit_in_bytes")),
        reservation=_bounded(_number(memory, "memory.soft_limit_in_bytes")),
        pids=_number(paths.get("pids"), "pids.max"),
        cpus=quota / period if quota and period and quota > 0 else None,
        shares=_number(cpu, "cpu.shares"),
        cpuset=_text(paths.get("cpuset"), "cpuset.cpus"),
    )


def _v2(directory: str) -> Limits:
    memory, swap = _number(directory, "memory.max"), _number(directory, "memory.swap.max")
    quota, _, period = _text(directory, "cpu.max").partition(" ")
    weight = _number(directory, "cpu.weight")
    return Limits(
        memory=memory,
        memory_swap=None if memory is None or swap is None else memory + swap,
        reservation=_number(directory, "memory.low") or None,
        pids=_number(directory, "pids.max"),
        cpus=int(quota) / int(period) if quota.isdigit() and period.isdigit() else None,
        shares=None if weight is None else limits_v2.shares_of_weight(weight),
        cpuset=_text(directory, "cpuset.cpus"),
    )


def _text(directory: str | None, name: str) -> str:
    if directory is None or not controlfile.exists(directory, name):
        return ""
    return controlfile.read(directory, name).strip()


def _number(directory: str | None, name: str) -> int | None:
    text = _text(directory, name)
    return int(text) if text.lstrip("-").isdigit() else None


def _bounded(value: int | None) -> int | None:
    return None if value is None or value >= UNLIMITED_V1 else value
