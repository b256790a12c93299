"""What a container's stats sample says, in Docker's columns."""

from __future__ import annotations

from collections.abc import Callable

from sampan.cli.listing import Listing
from sampan.cli.units import binary_size, decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

HEADERS = {
    "BlockIO": "BLOCK I/O", "CPUPerc": "CPU %", "Container": "CONTAINER", "ID": "CONTAINER ID", "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT", "Name": "NAME", "NetIO": "NET I/O", "PIDs": "PIDS",
}
STATS = Listing(
    "*container.statsContext", HEADERS,
    r"{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
)
NOTHING = "--"


def cpu_percent(before: dict[str, Any], now: dict[str, Any]) -> float:
    """Of one CPU, between two `cpu_stats`: 150.0 is one and a half CPUs."""
    used = now["cpu_usage"]["total_usage"] - before.get("cpu_usage", {}).get("total_usage", 0)
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ()) or 1
    return used / system * cpus * 100.0 if used > 0 and system > 0 else 0.0


def memory_used(memory: dict[str, Any]) -> int:
    """Bytes without the page cache that nobody used lately: what the kernel would give back first."""
    usage = int(memory.get("usage") or 0)
    details = memory.get("stats") or {}
    inactive = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
    return usage - inactive if inactive < usage else usage


def block_io(stats: dict[str, Any]) -> tuple[int, int]:
    """Bytes read and written."""
    read = written = 0
    for entry in (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        if entry["op"][:1] in "rR":
            read += entry["value"]
        elif entry["op"][:1] in "wW":
            written += entry["value"]
    return read, written


def stats_fields(
    wanted: str, sample: dict[str, Any] | None, before: dict[str, Any] | None, truncate: bool
) -> dict[str, Callable[..., Any]]:
    """One line. Without a sample (the container does not run, or has gone) every figure is `--`."""
    if sample is None or not sample.get("cpu_stats"):
        empty: dict[str, Callable[..., Any]] = {name: lambda: NOTHING for name in HEADERS}
        pair = f"{NOTHING} / {NOTHING}"
        pairs = {name: lambda: pair for name in ("MemUsage", "NetIO", "BlockIO")}
        return empty | pairs | {"Container": lambda: wanted}
    memory = sample.get("memory_stats") or {}
    used, limit = memory_used(memory), int(memory.get("limit") or 0)
    networks = (sample.get("networks") or {}).values()
    received, sent = sum(net["rx_bytes"] for net in networks), sum(net["tx_bytes"] for net in networks)
    read, written = block_io(sample)
    percent = cpu_percent((before or {}).get("cpu_stats") or sample.get("precpu_stats") or {}, sample["cpu_stats"])
    return {
        "BlockIO": lambda: f"{decimal_size(read, 3)} / {decimal_size(written, 3)}",
        "CPUPerc": lambda: f"{percent:.2f}%",
        "Container": lambda: wanted,
        "ID": lambda: sample["id"][:12] if truncate else sample["id"],
        "MemPerc": lambda: f"{used / limit * 100 if limit else 0:.2f}%",
        "MemUsage": lambda: f"{binary_size(used)} / {binary_size(limit)}",
        "Name": lambda: sample["name"].removeprefix("/"),
        "NetIO": lambda: f"{decimal_size(received, 3)} / {decimal_size(sent, 3)}",
        "PIDs": lambda: str((sample.get("pids_stats") or {}).get("current") or 0),
    }
