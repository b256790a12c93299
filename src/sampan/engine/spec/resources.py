"""HostConfig's limits → OCI resources, and warnings for those that this host cannot hold."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from sampan.errors import InvalidArgument
from sampan.linux.cgroup import limits_v1 as words
from sampan.linux.cgroup.features import Features
from sampan.oci.runtime import CPU, BlockIO, Memory, Pids, Resources, ThrottleDevice, WeightDevice

_PERIOD = 100_000  # µs
_SHARES = (2, 262_144)  # the kernel's bounds for cpu.shares


def make(host_config: Mapping[str, Any]) -> Resources:
    """The limits without the device rules: for creation, and for `update` with the members that change alone.

    Raises InvalidArgument for a block device that is none.
    """
    return Resources(
        memory=_memory(host_config), cpu=_cpu(host_config), pids=_pids(host_config), block_io=_block_io(host_config)
    )


def _memory(host_config: Mapping[str, Any]) -> Memory | None:
    memory = Memory(
        limit=host_config.get("Memory") or None,
        reservation=host_config.get("MemoryReservation") or None,
        swap=host_config.get("MemorySwap") or None,
        disable_oom_killer=True if host_config.get("OomKillDisable") else None,
    )
    swappiness = host_config.get("MemorySwappiness")
    if swappiness is not None and swappiness >= 0:
        memory.swappiness = swappiness
    return memory if memory != Memory() else None


def _cpu(host_config: Mapping[str, Any]) -> CPU | None:
    cpu = CPU(cpus=host_config.get("CpusetCpus") or "", mems=host_config.get("CpusetMems") or "")
    if shares := host_config.get("CpuShares"):
        cpu.shares = max(_SHARES[0], min(shares, _SHARES[1]))
    if nano := host_config.get("NanoCpus"):
        cpu.period, cpu.quota = _PERIOD, nano * _PERIOD // 1_000_000_000
    if period := host_config.get("CpuPeriod"):
        cpu.period = period
    if quota := host_config.get("CpuQuota"):
        cpu.quota = quota
    if period := host_config.get("CpuRealtimePeriod"):
        cpu.realtime_period = period
    if runtime := host_config.get("CpuRealtimeRuntime"):
        cpu.realtime_runtime = runtime
    return cpu if cpu != CPU() else None


def _pids(host_config: Mapping[str, Any]) -> Pids | None:
    """Docker's 0 and -1 take an earlier limit away; not said, None, leaves it."""
    limit = host_config.get("PidsLimit")
    if limit is None:
        return None
    return Pids(limit=limit if limit > 0 else -1)


def _block_io(host_config: Mapping[str, Any]) -> BlockIO | None:
    block = BlockIO(
        weight=host_config.get("BlkioWeight") or None,
        weight_device=[
            WeightDevice(major=major, minor=minor, weight=entry.get("Weight", 0))
            for entry in host_config.get("BlkioWeightDevice") or ()
            for major, minor in [_numbers(entry.get("Path", ""))]
        ],
        throttle_read_bps_device=_throttles(host_config, "BlkioDeviceReadBps"),
        throttle_write_bps_device=_throttles(host_config, "BlkioDeviceWriteBps"),
        throttle_read_iops_device=_throttles(host_config, "BlkioDeviceReadIOps"),
        throttle_write_iops_device=_throttles(host_config, "BlkioDeviceWriteIOps"),
    )
    return block if block != BlockIO() else None


def _throttles(host_config: Mapping[str, Any], member: str) -> list[ThrottleDevice]:
    found = []
    for entry in host_config.get(member) or ():
        major, minor = _numbers(entry.get("Path", ""))
        found.append(ThrottleDevice(major=major, minor=minor, rate=entry.get("Rate", 0)))
    return found


def _numbers(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {(error.strerror or 'failed').lower()}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidArgument(f"{path} is not a block device")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


_BLOCK = "Your kernel does not support {0} limit or the cgroup is not mounted. Block I/O {1} limit discarded."
_NO_RESERVATION = (
    "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
)
_WORDS = (
    # member, the feature it needs, Docker's words
    ("Memory", "memory_limit", words.NO_MEMORY),
    ("MemoryReservation", "memory_reservation", _NO_RESERVATION),
    ("OomKillDisable", "oom_kill_disable", words.NO_OOM_KILL_DISABLE),
    ("CpuShares", "cpu_shares", words.NO_SHARES),
    ("CpuPeriod", "cpu_cfs", words.NO_CFS),
    ("CpuQuota", "cpu_cfs", words.NO_CFS),
    ("CpusetCpus", "cpuset", words.NO_CPUSET),
    ("CpusetMems", "cpuset", words.NO_CPUSET),
    ("BlkioWeight", "blkio_weight", words.NO_WEIGHT),
    ("BlkioWeightDevice", "blkio_weight_device", words.NO_WEIGHT_DEVICE),
    ("BlkioDeviceReadBps", "blkio_throttle", _BLOCK.format("BPS Block I/O read", "BPS read")),
    ("BlkioDeviceWriteBps", "blkio_throttle", _BLOCK.format("BPS Block I/O write", "BPS write")),
    ("BlkioDeviceReadIOps", "blkio_throttle", _BLOCK.format("IOPS Block read", "IOPS read")),
    ("BlkioDeviceWriteIOps", "blkio_throttle", _BLOCK.format("IOPS Block write", "IOPS write")),
)


def warnings(host_config: Mapping[str, Any], features: Features) -> list[str]:
    """What of the limits this host will not hold. Raises InvalidArgument where Docker does (NanoCpus)."""
    found = [
        said for member, feature, said in _WORDS if host_config.get(member) and not getattr(features, feature)
    ]
    if host_config.get("Memory") and host_config.get("MemorySwap", 0) != -1 and not features.swap_limit:
        found.append(words.NO_SWAP_LIMIT)
    swappiness = host_config.get("MemorySwappiness")
    if swappiness is not None and swappiness >= 0 and not features.swappiness:
        found.append(words.NO_SWAPPINESS)
    if (host_config.get("PidsLimit") or 0) > 0 and not features.pids_limit:
        found.append(words.NO_PIDS)
    if host_config.get("NanoCpus") and not features.cpu_cfs:
        raise InvalidArgument(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    return list(dict.fromkeys(found))
