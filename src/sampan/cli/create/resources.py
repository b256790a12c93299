"""--ulimit, --sysctl, and the numbers that go into HostConfig as they are."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

ULIMITS = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
))
SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
))
SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
NUMBERS = {
    "blkio-weight": "BlkioWeight", "cpu-count": "CpuCount", "cpu-percent": "CpuPercent", "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota", "cpu-rt-period": "CpuRealtimePeriod", "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares", "cpus": "NanoCpus", "io-maxbandwidth": "IOMaximumBandwidth",
    "io-maxiops": "IOMaximumIOps",
    "memory": "Memory", "memory-reservation": "MemoryReservation", "memory-swap": "MemorySwap",
    "oom-score-adj": "OomScoreAdj", "pids-limit": "PidsLimit", "shm-size": "ShmSize",
}
DEVICE_LISTS = {
    "blkio-weight-device": "BlkioWeightDevice", "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps", "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
}


def parse_ulimit(text: str) -> object:
    """`nofile=1024:2048` as the API's Ulimit; -1 is no limit. Raises ValueError."""
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name.lower() not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = values.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError:
        raise ValueError(f"invalid limit: {values}: must be numbers, as soft[:hard]") from None
    if hard >= 0 and (soft > hard or soft == -1):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def check_sysctl(text: str) -> str:
    """NAME=VALUE of a sysctl that belongs to a namespace. Raises ValueError."""
    name = text.partition("=")[0]
    if "=" in text and (name in SYSCTLS or name.startswith(SYSCTL_PREFIXES)):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def ulimits(objects: list[object]) -> list[dict[str, Any]]:
    """One entry per name, the last one given wins; in the order of names."""
    by_name = {item["Name"]: item for item in objects if isinstance(item, dict)}
    return [by_name[name] for name in sorted(by_name)]
