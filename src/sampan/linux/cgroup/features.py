"""What this kernel's cgroup controllers can do: for warnings at create time and for `sampan doctor`."""

from __future__ import annotations

import os

from sampan.lean.record import dataclass, field
from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.host import Host, kernel_release


@dataclass(frozen=True)
class Features:
    """One flag per thing that a user can ask for. `cpus` and `mems` are lists as cpuset has them ("0-3,8")."""

    memory_limit: bool = True
    swap_limit: bool = True
    memory_reservation: bool = True
    swappiness: bool = False
    oom_kill_disable: bool = False
    kernel_memory: bool = False
    cpu_shares: bool = True
    cpu_cfs: bool = True
    cpu_realtime: bool = False
    cpuset: bool = True
    pids_limit: bool = True
    blkio_weight: bool = False
    blkio_weight_device: bool = False
    blkio_throttle: bool = True
    huge_page_sizes: list[str] = field(default_factory=list)
    disabled: list[str] = field(default_factory=list)
    cpus: str = ""
    mems: str = ""
    cpu_count: int = 1


def read(host: Host) -> Features:
    """Look at the mounted controllers. Raises OSError."""
    flags = _v2(host) if host.mode == "v2" else _v1(host.v1)
    if "hugetlb" in host.v2_controllers or "hugetlb" in host.v1:
        flags["huge_page_sizes"] = _huge_page_sizes()
    return Features(disabled=_disabled(), cpu_count=len(os.sched_getaffinity(0)), **flags)  # type: ignore[arg-type]


def _v1(mounts: dict[str, str]) -> dict[str, bool | str | list[str]]:
    def has(controller: str, name: str) -> bool:
        return controller in mounts and controlfile.exists(mounts[controller], name)

    bfq = has("blkio", "blkio.bfq.io_service_bytes")  # the weight itself is not in a root group
    return {
        "memory_limit": has("memory", "memory.limit_in_bytes"),
        "swap_limit": has("memory", "memory.memsw.limit_in_bytes"),
        "memory_reservation": has("memory", "memory.soft_limit_in_bytes"),
        "swappiness": has("memory", "memory.swappiness"),
        "oom_kill_disable": has("memory", "memory.oom_control"),
        "kernel_memory": has("memory", "memory.kmem.limit_in_bytes") and kernel_release() < (5, 16),
        "cpu_shares": has("cpu", "cpu.shares"),
        "cpu_cfs": has("cpu", "cpu.cfs_quota_us"),
        "cpu_realtime": has("cpu", "cpu.rt_runtime_us"),
        "cpuset": "cpuset" in mounts,
        "pids_limit": "pids" in mounts,
        "blkio_weight": bfq or has("blkio", "blkio.weight"),
        "blkio_weight_device": bfq or has("blkio", "blkio.weight_device"),
        "blkio_throttle": has("blkio", "blkio.throttle.read_bps_device"),
        "cpus": _first(mounts.get("cpuset", ""), ("cpuset.effective_cpus", "cpuset.cpus"), _online("cpu")),
        "mems": _first(mounts.get("cpuset", ""), ("cpuset.effective_mems", "cpuset.mems"), _online("node")),
    }


def _v2(host: Host) -> dict[str, bool | str | list[str]]:
    controllers = host.v2_controllers
    return {
        "memory_limit": "memory" in controllers,
        "swap_limit": "memory" in controllers and _swap_limit_v2(host.v2),
        "memory_reservation": "memory" in controllers,
        "cpu_shares": "cpu" in controllers,
        "cpu_cfs": "cpu" in controllers,
        "cpuset": "cpuset" in controllers,
        "pids_limit": "pids" in controllers,
        "blkio_weight": "io" in controllers,
        "blkio_weight_device": "io" in controllers,
        "blkio_throttle": "io" in controllers,
        "cpus": _first(host.v2, ("cpuset.cpus.effective",), _online("cpu")),
        "mems": _first(host.v2, ("cpuset.mems.effective",), _online("node")),
    }


def _swap_limit_v2(mount_point: str) -> bool:
    """memory.swap.max is in no root group: look into the groups below, where memory is enabled. True if unknown."""
    with os.scandir(mount_point) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and controlfile.exists(entry.path, "memory.max"):
                return controlfile.exists(entry.path, "memory.swap.max")
    return True


def _first(directory: str, names: tuple[str, ...], otherwise: str) -> str:
    for name in names:
        if directory and controlfile.exists(directory, name):
            return controlfile.read(directory, name).strip() or otherwise
    return otherwise


def _online(kind: str) -> str:
    try:
        return controlfile.read(f"/sys/devices/system/{kind}", "online").strip()
    except FileNotFoundError:  # a kernel without NUMA has no nodes
        return "0"


def _huge_page_sizes() -> list[str]:
    """As in the names of the hugetlb files: 2MB, 1GB."""
    sizes = []
    try:
        names = os.listdir("/sys/kernel/mm/hugepages")
    except FileNotFoundError:
        return []
    for name in names:  # hugepages-2048kB
        kib = int(name.removeprefix("hugepages-").removesuffix("kB"))
        sizes.append(f"{kib >> 20}GB" if kib >= 1 << 20 else f"{kib >> 10}MB" if kib >= 1 << 10 else f"{kib}KB")
    return sorted(sizes)


def _disabled() -> list[str]:
    """Controllers that the kernel command line switched off (cgroup_disable=)."""
    with open("/proc/cgroups", encoding="ascii") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    return [row[0] for row in rows if len(row) == 4 and row[3] == "0"]
