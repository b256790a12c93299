"""Which control files a container's limits need, so that a limit that cannot hold is refused before anything starts.

The OCI runtime spec asks for an error where a property cannot be applied (runtime.md, "Lifecycle"); Docker asks for a
warning and goes on (`Group.apply` returns those). What runc lets pass on every host passes here, too: kernel memory,
v2's lack of swappiness, of an OOM killer that can be switched off, of real-time budgets and of leaf weights, no limit
of swap, and no swap.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import controlfile
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.cgroup.host import V2_CONTROLLERS
from sampan.linux.cgroup.limits_v1 import check_page_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sampan.oci.runtime import CPU, BlockIO, Memory, Resources

    Need = tuple[str, str, tuple[str, ...], tuple[str, ...]]
    """What was asked for, by the spec's name; the v1 controller; the files any of which will do: v1's, v2's."""

_V2_NAMES = {"blkio": "io"}
_V2_RARE = ("rdma", "misc")


def check_sizes(resources: Resources) -> None:
    """Raises InvalidArgument for a size beyond its type, of which the kernel takes what its memparse() leaves, say 0.

    And for one below -1, which is no limit: on v2 anything negative would be written as that.
    """
    for limit in resources.hugepage_limits:
        _check_size("hugepageLimits", limit.limit, 1 << 64)
    if (memory := resources.memory) is not None:
        for name, size in (
            ("limit", memory.limit), ("reservation", memory.reservation), ("swap", memory.swap),
            ("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp),
        ):
            _check_size(f"memory.{name}", size or 0, 1 << 63)


def _check_size(asked: str, size: int, end: int) -> None:
    if not -1 <= size < end:
        raise InvalidArgument(f"linux.resources.{asked} is out of range: {size}")


def check(paths: Mapping[str, str], v2: bool, resources: Resources) -> None:
    """Raises Unsupported for the first limit that has no file in the group, InvalidArgument for a bad page size.

    `paths` as of Group.paths.
    """
    for asked, controller, v1_files, v2_files in _needs(resources, v2):
        in_v2 = v2 or (controller == "hugetlb" and controller not in paths)
        directory = paths.get(UNIFIED if in_v2 else controller)
        files = v2_files if in_v2 else v1_files
        if directory is None:
            raise Unsupported(f"linux.resources.{asked} cannot be set: no {controller} cgroup hierarchy is mounted")
        if not any(controlfile.exists(directory, name) for name in files):
            raise Unsupported(
                f"linux.resources.{asked} cannot be set: {directory}/{files[0]} does not exist, "
                "so this kernel lacks it or the controller is not available here"
            )


def lacking(directory: str, resources: Resources) -> list[str]:
    """The v2 controllers that have not every file in the group that `resources` write to: not enabled, or not known."""
    found = [
        _V2_NAMES.get(controller, controller) for _, controller, _, files in _needs(resources, v2=True)
        if not any(controlfile.exists(directory, name) for name in files)
    ]
    found += [name.partition(".")[0] for name in resources.unified if not controlfile.exists(directory, name)]
    return [name for name in dict.fromkeys(found) if name in (*V2_CONTROLLERS, *_V2_RARE)]


def _needs(resources: Resources, v2: bool) -> Iterator[Need]:
    if resources.memory is not None:
        yield from _memory(resources.memory, v2)
    if resources.cpu is not None:
        yield from _cpu(resources.cpu, v2)
    if resources.pids is not None and resources.pids.limit > 0:
        yield "pids.limit", "pids", ("pids.max",), ("pids.max",)
    if resources.block_io is not None:
        yield from _block_io(resources.block_io, v2)
    for limit in resources.hugepage_limits:
        check_page_size(limit.page_size)
        name = f"hugetlb.{limit.page_size}"
        yield "hugepageLimits", "hugetlb", (f"{name}.limit_in_bytes",), (f"{name}.max",)
    if resources.rdma:
        yield "rdma", "rdma", ("rdma.max",), ("rdma.max",)
    if resources.network is not None and not v2:
        if resources.network.class_id is not None:
            yield "network.classID", "net_cls", ("net_cls.classid",), ()
        if resources.network.priorities:
            yield "network.priorities", "net_prio", ("net_prio.ifpriomap",), ()
    if resources.devices and not v2:
        yield "devices", "devices", ("devices.allow",), ()


def _memory(memory: Memory, v2: bool) -> Iterator[Need]:
    if memory.limit is not None and memory.limit > 0:
        yield "memory.limit", "memory", ("memory.limit_in_bytes",), ("memory.max",)
    if memory.reservation is not None and memory.reservation > 0:
        yield "memory.reservation", "memory", ("memory.soft_limit_in_bytes",), ("memory.low",)
    if memory.swap is not None and memory.swap > 0 and not (v2 and memory.swap == memory.limit):
        yield "memory.swap", "memory", ("memory.memsw.limit_in_bytes",), ("memory.swap.max",)
    if memory.swappiness is not None and not v2:
        yield "memory.swappiness", "memory", ("memory.swappiness",), ()
    if memory.disable_oom_killer and not v2:
        yield "memory.disableOOMKiller", "memory", ("memory.oom_control",), ()


def _cpu(cpu: CPU, v2: bool) -> Iterator[Need]:
    if cpu.shares and not cpu.idle:
        yield "cpu.shares", "cpu", ("cpu.shares",), ("cpu.weight",)
    if cpu.quota or cpu.period:
        yield "cpu.quota", "cpu", ("cpu.cfs_quota_us",), ("cpu.max",)
    if cpu.burst:
        yield "cpu.burst", "cpu", ("cpu.cfs_burst_us",), ("cpu.max.burst",)
    if cpu.idle:
        yield "cpu.idle", "cpu", ("cpu.idle",), ("cpu.idle",)
    if (cpu.realtime_runtime or cpu.realtime_period) and not v2:
        yield "cpu.realtimeRuntime", "cpu", ("cpu.rt_runtime_us",), ()
    if cpu.cpus:
        yield "cpu.cpus", "cpuset", ("cpuset.cpus",), ("cpuset.cpus",)
    if cpu.mems:
        yield "cpu.mems", "cpuset", ("cpuset.mems",), ("cpuset.mems",)


def _block_io(block_io: BlockIO, v2: bool) -> Iterator[Need]:
    if block_io.weight:
        yield "blockIO.weight", "blkio", ("blkio.bfq.weight", "blkio.weight"), ("io.bfq.weight", "io.weight")
    if any(device.weight for device in block_io.weight_device):
        yield "blockIO.weightDevice", "blkio", ("blkio.bfq.weight_device", "blkio.weight_device"), (
            "io.bfq.weight", "io.weight")
    if not v2 and (block_io.leaf_weight or any(device.leaf_weight for device in block_io.weight_device)):
        yield "blockIO.leafWeight", "blkio", ("blkio.leaf_weight",), ()
    for key, devices in (
        ("read_bps", block_io.throttle_read_bps_device), ("write_bps", block_io.throttle_write_bps_device),
        ("read_iops", block_io.throttle_read_iops_device), ("write_iops", block_io.throttle_write_iops_device),
    ):
        if devices:
            yield f"blockIO.throttle ({key})", "blkio", (f"blkio.throttle.{key}_device",), ("io.max",)
