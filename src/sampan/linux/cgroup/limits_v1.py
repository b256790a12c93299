"""OCI resources → the control files of v1 hierarchies (Documentation/admin-guide/cgroup-v1/)."""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import controlfile, devices
from sampan.linux.cgroup.controlfile import set_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci.runtime import CPU, BlockIO, HugepageLimit, Memory, Network, Rdma, Resources, ThrottleDevice

NO_SWAP_LIMIT = (
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
)
NO_MEMORY = (
    "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
)
NO_SWAPPINESS = (
    "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
    "Memory swappiness discarded."
)
NO_KERNEL_MEMORY = (
    "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded."
)
NO_OOM_KILL_DISABLE = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
NO_CFS = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
NO_BURST = "Your kernel does not support CPU burst. CPU burst discarded."
NO_SHARES = "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded."
NO_CPUSET = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."
NO_PIDS = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
NO_BLKIO = "Your kernel does not support Block I/O limits or the cgroup is not mounted. Limits discarded."
NO_RDMA = "Your kernel does not support RDMA limits or the cgroup is not mounted. Limits discarded."
NO_LEAF_WEIGHT = "Your kernel does not support Block I/O leaf_weight. Leaf weight discarded."
NO_WEIGHT = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
NO_WEIGHT_DEVICE = (
    "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
)

NO_NETWORK = "Your kernel does not support network classes or priorities or the cgroup is not mounted. Discarded."

_RDMA_MAX = (1 << 32) - 1


def apply(directories: Mapping[str, str], resources: Resources) -> list[str]:
    """Write what `resources` names into a group's v1 directories. Returns warnings for what is not there."""
    warnings: list[str] = []
    if resources.devices and "devices" in directories:
        devices.apply(directories["devices"], resources.devices)
    if (memory := resources.memory) is not None:
        warnings += apply_memory(directories["memory"], memory) if "memory" in directories else [NO_MEMORY]
    if (cpu := resources.cpu) is not None:
        warnings += apply_cpu(directories["cpu"], cpu) if "cpu" in directories else _without_cpu(cpu)
        if cpu.cpus or cpu.mems:
            warnings += apply_cpuset(directories["cpuset"], cpu) if "cpuset" in directories else [NO_CPUSET]
    if resources.pids is not None and resources.pids.limit != 0:
        if "pids" in directories:
            limit = resources.pids.limit
            set_value(directories["pids"], "pids.max", limit if limit > 0 else "max")
        else:
            warnings.append(NO_PIDS)
    if (block_io := resources.block_io) is not None:
        warnings += apply_blkio(directories["blkio"], block_io) if "blkio" in directories else [NO_BLKIO]
    if "hugetlb" in directories:
        apply_hugetlb(directories["hugetlb"], resources.hugepage_limits)
    if resources.rdma:
        warnings += apply_rdma(directories["rdma"], resources.rdma) if "rdma" in directories else [NO_RDMA]
    if resources.network is not None:
        warnings += apply_network(directories, resources.network)
    return warnings


def apply_memory(directory: str, memory: Memory) -> list[str]:
    """memory.limit_in_bytes and its kin. `memory.swap` counts memory and swap together, as memory.memsw does.

    A limit of 0 is "not given", as for runc.
    """
    warnings: list[str] = []
    swap = memory.swap or None
    if memory.limit == -1 and swap is None:
        swap = -1  # else the old memory+swap limit would still bound the memory
    _apply_limit_and_swap(directory, memory.limit or None, swap, warnings)
    if memory.reservation:
        set_value(directory, "memory.soft_limit_in_bytes", memory.reservation)
    if memory.kernel:
        _set_or_warn(directory, "memory.kmem.limit_in_bytes", memory.kernel, NO_KERNEL_MEMORY, warnings)
    if memory.kernel_tcp:
        _set_or_warn(directory, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp, NO_KERNEL_MEMORY, warnings)
    if memory.swappiness is not None:
        _set_or_warn(directory, "memory.swappiness", memory.swappiness, NO_SWAPPINESS, warnings)
    if memory.disable_oom_killer is not None:
        value = int(memory.disable_oom_killer)
        _set_or_warn(directory, "memory.oom_control", value, NO_OOM_KILL_DISABLE if value else "", warnings)
    return [warning for warning in warnings if warning]


def _apply_limit_and_swap(directory: str, limit: int | None, swap: int | None, warnings: list[str]) -> None:
    """The kernel holds limit ≤ memory+swap limit at every step: so down in this order, up in the other."""
    if limit is not None:
        try:
            controlfile.write(directory, "memory.limit_in_bytes", str(limit))
        except OSError as error:
            if error.errno == errno.EINVAL and swap is not None and _set_swap(directory, swap, warnings):
                swap = None
                _set_limit(directory, limit)
            else:
                raise _limit_refused(error, directory, limit) from error
    if swap is not None:
        _set_swap(directory, swap, warnings)


def _set_limit(directory: str, limit: int) -> None:
    try:
        controlfile.write(directory, "memory.limit_in_bytes", str(limit))
    except OSError as error:
        raise _limit_refused(error, directory, limit) from error


def _limit_refused(error: OSError, directory: str, limit: int) -> Exception:
    path = f"{directory}/memory.limit_in_bytes"
    if error.errno == errno.EBUSY:
        usage = controlfile.read_int(directory, "memory.usage_in_bytes")
        peak = controlfile.read_int(directory, "memory.max_usage_in_bytes")
        return InvalidArgument(f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")
    if error.errno == errno.EINVAL and (bound := _memsw(directory)) is not None and not 0 <= limit <= bound:
        return InvalidArgument(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    return controlfile.failed(error, path, limit)


def _memsw(directory: str) -> int | None:
    try:
        return controlfile.read_int(directory, "memory.memsw.limit_in_bytes")
    except FileNotFoundError:
        return None


def _set_swap(directory: str, swap: int, warnings: list[str]) -> bool:
    try:
        set_value(directory, "memory.memsw.limit_in_bytes", swap)
    except Unsupported:
        if swap != -1:
            warnings.append(NO_SWAP_LIMIT)
        return False
    return True


def _set_or_warn(directory: str, name: str, value: int | str, warning: str, warnings: list[str]) -> None:
    try:
        set_value(directory, name, value)
    except Unsupported:
        warnings.append(warning)


def apply_cpu(directory: str, cpu: CPU) -> list[str]:
    """cpu.shares, CFS bandwidth (µs), real-time bandwidth (µs). 0 is "not given", as for runc."""
    warnings: list[str] = []
    if cpu.idle is not None and wanted(directory, "cpu.idle", cpu.idle):
        set_value(directory, "cpu.idle", cpu.idle)
    if cpu.shares and not cpu.idle:
        check_shares(cpu.shares)
        _set_or_warn(directory, "cpu.shares", cpu.shares, NO_SHARES, warnings)
    bandwidth = []
    if cpu.burst is not None and has_burst(directory, "cpu.cfs_burst_us", cpu.burst, warnings):
        bandwidth.append(("cpu.cfs_burst_us", cpu.burst))
    if cpu.period:
        bandwidth.append(("cpu.cfs_period_us", cpu.period))
    if cpu.quota:
        bandwidth.append(("cpu.cfs_quota_us", cpu.quota))
    if bandwidth:
        try:
            set_in_any_order(directory, bandwidth)
        except Unsupported:
            warnings.append(NO_CFS)
    realtime = []
    if cpu.realtime_period:
        realtime.append(("cpu.rt_period_us", cpu.realtime_period))
    if cpu.realtime_runtime:
        realtime.append(("cpu.rt_runtime_us", cpu.realtime_runtime))
    if realtime:
        _apply_realtime(directory, realtime)
    return warnings


def wanted(directory: str, name: str, value: int) -> bool:
    """Whether a switch is to be written: 0 needs no file where the kernel lacks the whole thing."""
    return value != 0 or controlfile.exists(directory, name)


def has_burst(directory: str, name: str, burst: int, warnings: list[str]) -> bool:
    """Whether the file (Linux 5.14) is there to be written. The quota has to hold without it."""
    if controlfile.exists(directory, name):
        return True
    if burst:
        warnings.append(NO_BURST)
    return False


def check_shares(shares: int) -> None:
    """The kernel bends what is out of range without a word. Raises InvalidArgument, in runc's words."""
    if shares < 2:
        raise InvalidArgument("the minimum allowed cpu-shares is 2")
    if shares > 262144:
        raise InvalidArgument("the maximum allowed cpu-shares is 262144")


def _apply_realtime(directory: str, values: list[tuple[str, int]]) -> None:
    """A group's real-time budget comes out of that of the group above, and a new group has none. The groups above are
    others': whoever they belong to has to give them theirs. Raises InvalidArgument, which names the first without.
    """
    try:
        set_in_any_order(directory, values)
    except InvalidArgument as error:
        above = [os.path.dirname(directory)]
        while not os.path.ismount(above[-1]):  # the mount's root may be the group of a cgroup namespace
            above.append(os.path.dirname(above[-1]))
        empty = [group for group in reversed(above) if controlfile.read_int(group, "cpu.rt_runtime_us") == 0]
        if not empty:
            raise
        raise InvalidArgument(f"no real-time budget to share: write one to {empty[0]}/cpu.rt_runtime_us") from error


def _without_cpu(cpu: CPU) -> list[str]:
    warnings = [NO_SHARES] if cpu.shares is not None else []
    return warnings + ([NO_CFS] if cpu.quota is not None or cpu.period is not None else [])


def set_in_any_order(directory: str, values: list[tuple[str, int]]) -> None:
    """Files whose values bound each other (burst ≤ quota, quota/period ≤ the parent's): what is refused is tried last.

    Whether values must be set up or down first depends on the old ones. Raises as `set_value`.
    """
    refused = []
    for name, value in values:
        try:
            set_value(directory, name, value)
        except InvalidArgument:
            refused.append((name, value))
    for name, value in reversed(refused):
        set_value(directory, name, value)


def apply_cpuset(directory: str, cpu: CPU) -> list[str]:
    """cpuset.cpus and cpuset.mems, as lists ("0-2,4")."""
    if cpu.cpus:
        set_value(directory, "cpuset.cpus", cpu.cpus)
    if cpu.mems:
        set_value(directory, "cpuset.mems", cpu.mems)
    return []


def apply_blkio(directory: str, block_io: BlockIO) -> list[str]:
    """Weights (the BFQ scheduler's on current kernels) and throttling (bytes or operations a second)."""
    warnings: list[str] = []
    prefix = "blkio.bfq" if controlfile.exists(directory, "blkio.bfq.weight") else "blkio"
    if block_io.weight:
        _set_or_warn(directory, f"{prefix}.weight", block_io.weight, NO_WEIGHT, warnings)
    if block_io.leaf_weight:  # went with the CFQ scheduler, Linux 5.0
        _set_or_warn(directory, "blkio.leaf_weight", block_io.leaf_weight, NO_LEAF_WEIGHT, warnings)
    for device in block_io.weight_device:
        numbers = f"{device.major}:{device.minor}"
        if device.weight and not controlfile.exists(directory, f"{prefix}.weight_device"):
            warnings.append(NO_WEIGHT_DEVICE)
        elif device.weight:  # EOPNOTSUPP where this one device is scheduled by something else than BFQ
            set_value(directory, f"{prefix}.weight_device", f"{numbers} {device.weight}")
        if device.leaf_weight:
            line = f"{numbers} {device.leaf_weight}"
            _set_or_warn(directory, "blkio.leaf_weight_device", line, NO_LEAF_WEIGHT, warnings)
    _throttle(directory, "blkio.throttle.read_bps_device", block_io.throttle_read_bps_device)
    _throttle(directory, "blkio.throttle.write_bps_device", block_io.throttle_write_bps_device)
    _throttle(directory, "blkio.throttle.read_iops_device", block_io.throttle_read_iops_device)
    _throttle(directory, "blkio.throttle.write_iops_device", block_io.throttle_write_iops_device)
    return warnings


def _throttle(directory: str, name: str, devices: list[ThrottleDevice]) -> None:
    for device in devices:
        set_value(directory, name, f"{device.major}:{device.minor} {device.rate}")


def apply_hugetlb(directory: str, limits: list[HugepageLimit]) -> None:
    """hugetlb.2MB.limit_in_bytes and so on, and the reservation limit where the kernel has it (5.7)."""
    for limit in limits:
        check_page_size(limit.page_size)
        set_value(directory, f"hugetlb.{limit.page_size}.limit_in_bytes", limit.limit)
        if controlfile.exists(directory, f"hugetlb.{limit.page_size}.rsvd.limit_in_bytes"):
            set_value(directory, f"hugetlb.{limit.page_size}.rsvd.limit_in_bytes", limit.limit)


def check_page_size(size: str) -> None:
    """A page size becomes part of a file name: digits and KB, MB or GB. Raises InvalidArgument."""
    if not (size[:-2].isascii() and size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")):
        raise InvalidArgument(f"invalid huge page size: {size!r}")


def apply_rdma(directory: str, limits: Mapping[str, Rdma]) -> list[str]:
    """rdma.max, the same file in v1 and v2: "mlx4_0 hca_handle=2 hca_object=max". None leaves a limit as it is."""
    for device, limit in limits.items():
        if not device.isascii() or not device.isprintable() or " " in device or not device:
            raise InvalidArgument(f"invalid RDMA device name: {device!r}")
        pairs = [
            f"{key}={'max' if value == _RDMA_MAX else value}"
            for key, value in (("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects))
            if value is not None
        ]
        if pairs:
            set_value(directory, "rdma.max", " ".join([device, *pairs]))
    return []


def apply_network(directories: Mapping[str, str], network: Network) -> list[str]:
    """net_cls.classid and net_prio.ifpriomap: marks on outgoing packets, for tc(8) to act on."""
    warnings = []
    if network.class_id is not None:
        if "net_cls" in directories:
            set_value(directories["net_cls"], "net_cls.classid", network.class_id)
        else:
            warnings.append(NO_NETWORK)
    for entry in network.priorities:
        if not entry.name.isascii() or not entry.name.isprintable() or " " in entry.name or not entry.name:
            raise InvalidArgument(f"invalid network interface name: {entry.name!r}")
        if "net_prio" in directories:
            set_value(directories["net_prio"], "net_prio.ifpriomap", f"{entry.name} {entry.priority}")
        else:
            warnings.append(NO_NETWORK)
    return warnings
