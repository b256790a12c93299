"""OCI resources, whose words are v1's, → the control files of a v2 group (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import errno
import math
import os

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import controlfile, device_program
from sampan.linux.cgroup.controlfile import set_value
from sampan.linux.cgroup.limits_v1 import (
    NO_BLKIO,
    NO_CFS,
    NO_CPUSET,
    NO_KERNEL_MEMORY,
    NO_LEAF_WEIGHT,
    NO_MEMORY,
    NO_OOM_KILL_DISABLE,
    NO_PIDS,
    NO_RDMA,
    NO_SHARES,
    NO_SWAP_LIMIT,
    NO_SWAPPINESS,
    NO_WEIGHT,
    NO_WEIGHT_DEVICE,
    apply_cpuset,
    apply_rdma,
    check_page_size,
    check_shares,
    has_burst,
    wanted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci.runtime import CPU, BlockIO, HugepageLimit, Memory, Resources, ThrottleDevice

_HARMLESS = ("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure")


def apply(directory: str, resources: Resources) -> list[str]:
    """Write what `resources` names into a v2 group. Returns warnings for what this kernel lacks."""
    warnings: list[str] = []
    if resources.devices:
        device_program.attach(directory, resources.devices)
    if (memory := resources.memory) is not None:
        warnings += _guarded(directory, "memory.max", NO_MEMORY) or apply_memory(directory, memory)
    if (cpu := resources.cpu) is not None:
        warnings += apply_cpu(directory, cpu)
        if cpu.cpus or cpu.mems:
            warnings += _guarded(directory, "cpuset.cpus", NO_CPUSET) or apply_cpuset(directory, cpu)
    if resources.pids is not None and resources.pids.limit != 0:
        limit = resources.pids.limit
        try:
            set_value(directory, "pids.max", limit if limit > 0 else "max")
        except Unsupported:
            warnings.append(NO_PIDS)
    if (block_io := resources.block_io) is not None:
        warnings += _guarded(directory, "io.stat", NO_BLKIO) or apply_io(directory, block_io)
    apply_hugetlb(directory, resources.hugepage_limits)
    if resources.rdma:
        warnings += _guarded(directory, "rdma.max", NO_RDMA) or apply_rdma(directory, resources.rdma)
    apply_unified(directory, resources.unified)
    return warnings


def _guarded(directory: str, name: str, warning: str) -> list[str]:
    return [] if controlfile.exists(directory, name) else [warning]


def apply_unified(directory: str, settings: Mapping[str, str]) -> None:
    """Control files by name; each line of a value is a write of its own, as io.max wants it.

    Raises InvalidArgument for a name that is none, Unsupported for a file that this kernel, or this group, lacks.
    """
    for name in settings:
        check_unified_name(name)
    for name, value in settings.items():
        if not controlfile.exists(directory, name):
            controller = name.partition(".")[0]
            raise Unsupported(
                f"unified resource {name!r} cannot be set: {directory}/{name} does not exist, "
                f"so this kernel lacks it or the {controller} controller is not available here"
            )
        controlfile.write_all(directory, name, value.rstrip("\n").split("\n"))


def check_unified_name(name: str) -> None:
    """A key of `unified` names a control file: "memory.high". Raises InvalidArgument for anything like a path, and for
    the files that make a group what it is (its processes, its kind).
    """
    if name in _HARMLESS:
        return
    plain = name.isascii() and name.isprintable() and "/" not in name
    if not plain or "." not in name.strip(".") or name.startswith("cgroup."):
        raise InvalidArgument(f"invalid unified cgroup setting: {name!r}")


def apply_memory(directory: str, memory: Memory) -> list[str]:
    """memory.swap.max (swap alone, where OCI counts memory and swap together), memory.max, memory.low.

    Swap first: what no longer fits a lower memory.max may have to go there. A limit of 0 is "not given", as for runc.
    """
    warnings: list[str] = []
    swap = memory.swap or None
    if memory.limit == -1 and swap is None:
        swap = -1
    if swap is not None:
        value = _swap_alone(directory, memory.limit or None, swap)
        try:
            set_value(directory, "memory.swap.max", value)
        except Unsupported:
            if value not in ("max", 0):
                warnings.append(NO_SWAP_LIMIT)
    if memory.limit:
        if memory.check_before_update is not False:
            _check_usage(directory, memory.limit)
        set_value(directory, "memory.max", "max" if memory.limit < 0 else memory.limit)
    if memory.reservation:
        set_value(directory, "memory.low", "max" if memory.reservation < 0 else memory.reservation)
    if memory.kernel or memory.kernel_tcp:
        warnings.append(NO_KERNEL_MEMORY)
    if memory.swappiness is not None:
        warnings.append(NO_SWAPPINESS)
    if memory.disable_oom_killer:
        warnings.append(NO_OOM_KILL_DISABLE)
    return warnings


def _check_usage(directory: str, limit: int) -> None:
    """v1 refuses a limit below what is in use; v2 would kill. So what can be reclaimed is, and the rest refuses.

    That is what `checkBeforeUpdate` asks for; here it goes without saying, and only `false` turns it off.
    """
    if limit < 0:
        return
    usage = controlfile.read_int(directory, "memory.current") or 0
    if usage > limit:
        _reclaim(directory, usage - limit)
        usage = controlfile.read_int(directory, "memory.current") or 0
    if usage > limit:
        peak = _peak(directory)
        raise InvalidArgument(f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")


def _reclaim(directory: str, size: int) -> None:
    try:
        controlfile.write(directory, "memory.reclaim", str(size))  # Linux 5.19
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOENT):  # EAGAIN: less than was asked for
            raise


def _peak(directory: str) -> int | str | None:
    try:
        return controlfile.read_int(directory, "memory.peak")  # Linux 5.19
    except FileNotFoundError:
        return "unknown"


def _swap_alone(directory: str, limit: int | None, swap: int) -> int | str:
    if swap < 0:
        return "max"
    if limit is None:
        limit = controlfile.read_int(directory, "memory.max")
    if limit is None or limit < 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap < limit:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    return swap - limit


def apply_cpu(directory: str, cpu: CPU) -> list[str]:
    """cpu.weight, cpu.max, cpu.max.burst, cpu.idle. v2 has no real-time bandwidth."""
    warnings: list[str] = []
    if cpu.idle is not None and wanted(directory, "cpu.idle", cpu.idle):
        set_value(directory, "cpu.idle", cpu.idle)
    if cpu.shares and not cpu.idle:
        check_shares(cpu.shares)
        try:
            set_value(directory, "cpu.weight", weight_of_shares(cpu.shares))
        except Unsupported:
            warnings.append(NO_SHARES)
    burst = cpu.burst
    if burst is not None and not has_burst(directory, "cpu.max.burst", burst, warnings):
        burst = None
    if cpu.quota or cpu.period:
        try:
            _set_bandwidth(directory, cpu, burst)
        except (Unsupported, FileNotFoundError):
            warnings.append(NO_CFS)
    elif burst is not None:
        set_value(directory, "cpu.max.burst", burst)
    if cpu.realtime_runtime or cpu.realtime_period:
        warnings.append("cgroup v2 has no CPU real-time bandwidth. CPU real-time period/runtime discarded.")
    return warnings


def _set_bandwidth(directory: str, cpu: CPU, burst: int | None) -> None:
    quota, period = controlfile.read(directory, "cpu.max").split()
    if cpu.quota:
        quota = str(cpu.quota) if cpu.quota > 0 else "max"
    if cpu.period:
        period = str(cpu.period)
    burst_refused = False
    if burst is not None:  # burst ≤ quota must hold at every step
        try:
            set_value(directory, "cpu.max.burst", burst)
        except InvalidArgument:
            burst_refused = True
    set_value(directory, "cpu.max", f"{quota} {period}")
    if burst_refused:
        set_value(directory, "cpu.max.burst", burst or 0)


def weight_of_shares(shares: int) -> int:
    """v1 cpu.shares (2…262144, default 1024) → v2 cpu.weight (1…10000, default 100).

    runc's formula since 1.4: a parabola through (2, 1), (1024, 100) and (262144, 10000) on logarithmic scales; the
    straight line of before gave the default 1024 a weight of 39, less than any group without limits has.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def shares_of_weight(weight: int) -> int:
    """The shares that `weight_of_shares` makes this weight of; where several do, about the middle of them."""
    if weight <= 1:
        return 2
    log = (math.sqrt(125 * 125 + 4 * 612 * (math.log10(weight) + 7 / 34)) - 125) / 2
    return min(round(2**log), 262144)


def apply_io(directory: str, block_io: BlockIO) -> list[str]:
    """io.bfq.weight or io.weight, io.max (bytes or operations a second)."""
    warnings: list[str] = []
    bfq = controlfile.exists(directory, "io.bfq.weight")
    if block_io.weight:
        value = block_io.weight if bfq else weight_of_blkio(block_io.weight)
        try:
            set_value(directory, "io.bfq.weight" if bfq else "io.weight", value)
        except Unsupported:
            warnings.append(NO_WEIGHT)
    name = "io.bfq.weight" if bfq else "io.weight"
    for device in block_io.weight_device:
        if device.weight and not controlfile.exists(directory, name):
            warnings.append(NO_WEIGHT_DEVICE)
        elif device.weight:
            value = device.weight if bfq else weight_of_blkio(device.weight)
            set_value(directory, name, f"{device.major}:{device.minor} {value}")
    if block_io.leaf_weight or any(device.leaf_weight for device in block_io.weight_device):
        warnings.append(NO_LEAF_WEIGHT)
    _throttle(directory, "rbps", block_io.throttle_read_bps_device)
    _throttle(directory, "wbps", block_io.throttle_write_bps_device)
    _throttle(directory, "riops", block_io.throttle_read_iops_device)
    _throttle(directory, "wiops", block_io.throttle_write_iops_device)
    return warnings


def weight_of_blkio(weight: int) -> int:
    """v1 blkio weight (10…1000) → v2 io.weight (1…10000), linear."""
    return 1 + (max(10, min(weight, 1000)) - 10) * 9999 // 990


def _throttle(directory: str, key: str, devices: list[ThrottleDevice]) -> None:
    for device in devices:
        set_value(directory, "io.max", f"{device.major}:{device.minor} {key}={device.rate or 'max'}")


def apply_hugetlb(directory: str, limits: list[HugepageLimit]) -> None:
    """hugetlb.2MB.max and so on, and the reservation limit where the kernel has it."""
    for limit in limits:
        check_page_size(limit.page_size)
        set_value(directory, f"hugetlb.{limit.page_size}.max", limit.limit)
        if os.access(f"{directory}/hugetlb.{limit.page_size}.rsvd.max", os.F_OK):
            set_value(directory, f"hugetlb.{limit.page_size}.rsvd.max", limit.limit)
