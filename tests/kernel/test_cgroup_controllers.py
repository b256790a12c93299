"""Limits of each controller, with processes that run into them."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable

import pytest
from tests.cgroup_fixture import MIB, has, pause, spawn, started, touch

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import Group, Host, controlfile, features, limits_v1, stats
from sampan.oci.runtime import (
    CPU,
    BlockIO,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


def test_the_memory_limit_kills_and_says_so(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "memory"):
        pytest.skip("no memory controller here")
    group.apply(Resources(memory=Memory(limit=32 * MIB, swap=32 * MIB)))
    assert stats.memory_events(group.paths()) == stats.MemoryEvents(0, 0)
    assert spawn(group, lambda: touch(64 * MIB)).wait() == -signal.SIGKILL
    events = stats.memory_events(group.paths())
    assert stats.oom_kills(group.paths()) == events.oom_kills == 1
    assert events.killed_by_own_limit
    read = stats.read(group.paths()).memory
    assert read.limit == 32 * MIB
    assert read.oom_kills == 1
    assert read.failures > 0 or "memory" in group.paths()  # v1 of Linux 6.18 does not count them
    assert read.max_usage == 0 or 30 * MIB < read.max_usage <= 32 * MIB
    assert "pgfault" in read.stat


def test_memory_limits_go_up_and_down_while_it_runs(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "memory"):
        pytest.skip("no memory controller here")

    def limits() -> tuple[int | None, int | None]:
        read = stats.read(group.paths()).memory
        swap = read.swap_limit
        if group.host.mode == "v2" and swap is not None and read.limit is not None:
            swap += read.limit
        return read.limit, swap

    for limit, swap in ((64, 128), (16, 32), (256, 256), (32, 64)):
        assert group.apply(Resources(memory=Memory(limit=limit * MIB, swap=swap * MIB))) == []
        assert limits() == (limit * MIB, swap * MIB)
    group.apply(Resources(memory=Memory(limit=-1)))
    assert limits() == (None, None)


def test_a_limit_below_what_is_used_is_refused(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "memory"):
        pytest.skip("no memory controller here")
    group.apply(Resources(memory=Memory(limit=64 * MIB, swap=64 * MIB)))

    def hold() -> int:
        memory = mmap.mmap(-1, 24 * MIB)
        memory.write(b"x" * (24 * MIB))
        os.write(writer, b"x")
        return pause()

    reader, writer = os.pipe()
    child = spawn(group, hold)
    os.read(reader, 1)
    try:
        with pytest.raises(InvalidArgument, match=r"unable to set memory limit to 6291456 \(current usage: \d+, peak"):
            group.apply(Resources(memory=Memory(limit=6 * MIB, swap=6 * MIB)))
        assert stats.read(group.paths()).memory.limit == 64 * MIB
        assert not child.ended(0)
    finally:
        os.close(reader)
        os.close(writer)
        group.kill_all()
        child.wait()


def test_a_limit_over_the_swap_limit_is_refused(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if "memory" not in group.paths():
        pytest.skip("v1's rule")
    group.apply(Resources(memory=Memory(limit=32 * MIB, swap=32 * MIB)))
    with pytest.raises(InvalidArgument, match="update the memoryswap at the same time"):
        group.apply(Resources(memory=Memory(limit=64 * MIB)))


def test_the_pids_limit_stops_a_fork_bomb(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "pids"):
        pytest.skip("no pids controller here")
    group.apply(Resources(pids=Pids(limit=5)))

    def bomb() -> int:
        made = 0
        try:
            while made < 50:
                if os.fork() == 0:
                    pause()
                made += 1
        except BlockingIOError:
            return made
        return 98

    child = spawn(group, bomb)
    assert child.wait() == 4
    read = stats.read(group.paths()).pids
    assert (read.current, read.limit) == (4, 5)
    group.kill_all()
    assert group.procs() == []


def test_the_cpu_quota_throttles(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "cpu"):
        pytest.skip("no cpu controller here")
    group.apply(Resources(cpu=CPU(quota=2000, period=10000, shares=512)))

    def burn() -> int:
        while os.times().user + os.times().system < 0.06:
            pass
        return 0

    assert spawn(group, burn).wait() == 0
    cpu = stats.read(group.paths()).cpu
    assert cpu.periods >= 3
    assert cpu.throttled_periods >= 3
    assert cpu.throttled_ns > 0
    assert cpu.usage_ns >= 40_000_000
    assert cpu.usage_ns == pytest.approx(cpu.user_ns + cpu.system_ns, rel=0.2)
    group.apply(Resources(cpu=CPU(quota=-1)))
    group.apply(Resources(cpu=CPU(quota=500_000, period=1_000_000)))
    group.apply(Resources(cpu=CPU(quota=10_000, period=100_000)))


def test_the_cpuset_pins(make_group: Callable[..., Group], host: Host) -> None:
    group = make_group()
    if not has(group, "cpuset"):
        pytest.skip("no cpuset controller here")
    last = max(os.sched_getaffinity(0))
    group.apply(Resources(cpu=CPU(cpus=str(last), mems="0")))
    child = started(group)
    try:
        assert os.sched_getaffinity(child.pid) == {last}
    finally:
        group.kill_all()
        child.wait()
    with pytest.raises(InvalidArgument, match=r"cannot write '4000' to /.*cpuset\.cpus: "):
        group.apply(Resources(cpu=CPU(cpus="4000")))


def test_throttled_devices_must_exist(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "blkio") and not has(group, "io"):
        pytest.skip("no block io controller here")
    device = ThrottleDevice(major=4000, minor=1, rate=MIB)
    with pytest.raises(InvalidArgument, match="cannot write '4000:1"):
        group.apply(Resources(block_io=BlockIO(throttle_read_bps_device=[device])))
    assert stats.read(group.paths()).block.service_bytes == []


def test_unified_settings(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if group.host.mode != "v2":
        with pytest.raises(Unsupported, match="cgroup v2"):
            group.apply(Resources(unified={"memory.high": "1000000"}))
        return
    group.apply(Resources(unified={"memory.high": "104857600"}))
    assert controlfile.read(group.paths()["unified"], "memory.high").strip() == "104857600"
    for name in ("../cgroup.procs", "cgroup.procs", "a/b", "memory"):
        with pytest.raises(InvalidArgument, match="invalid unified cgroup setting"):
            group.apply(Resources(unified={name: "1"}))


def test_stats_of_a_group_that_is_gone_are_zero(make_group: Callable[..., Group]) -> None:
    group = make_group()
    paths = group.paths()
    group.remove()
    assert stats.read(paths).memory.usage == 0
    assert stats.oom_kills(paths) == 0


def value(group: Group, v1: str, v1_file: str, v2_file: str) -> str:
    paths = group.paths()
    directory, name = (paths[v1], v1_file) if v1 in paths else (paths["unified"], v2_file)
    return controlfile.read(directory, name).strip()


def test_shares_out_of_range_are_refused_and_zero_is_not_given(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "cpu"):
        pytest.skip("no cpu controller here")
    before = value(group, "cpu", "cpu.shares", "cpu.weight")
    assert group.apply(Resources(cpu=CPU(shares=0, quota=0, period=0))) == []
    assert value(group, "cpu", "cpu.shares", "cpu.weight") == before
    with pytest.raises(InvalidArgument, match="minimum allowed cpu-shares is 2"):
        group.apply(Resources(cpu=CPU(shares=1)))
    with pytest.raises(InvalidArgument, match="maximum allowed cpu-shares is 262144"):
        group.apply(Resources(cpu=CPU(shares=262145)))


def test_quota_burst_and_idle(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "cpu"):
        pytest.skip("no cpu controller here")
    for quota, burst in ((20_000, 10_000), (50_000, 50_000), (10_000, 5_000), (10_000, 0)):
        group.apply(Resources(cpu=CPU(quota=quota, period=50_000, burst=burst)))
        assert value(group, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == str(burst)
        assert value(group, "cpu", "cpu.cfs_quota_us", "cpu.max").startswith(str(quota))
    with pytest.raises(InvalidArgument, match=r"cpu\.(cfs_burst_us|max\.burst)"):
        group.apply(Resources(cpu=CPU(burst=60_000)))
    group.apply(Resources(cpu=CPU(idle=1, shares=512)))
    assert value(group, "cpu", "cpu.idle", "cpu.idle") == "1"
    group.apply(Resources(cpu=CPU(idle=0, shares=512)))
    assert value(group, "cpu", "cpu.idle", "cpu.idle") == "0"


def test_a_real_time_budget_comes_from_the_groups_above(make_group: Callable[..., Group]) -> None:
    group = make_group("rt/one")
    if not controlfile.exists(group.paths().get("cpu", ""), "cpu.rt_runtime_us"):
        if group.host.mode == "v2":
            assert "real-time" in group.apply(Resources(cpu=CPU(realtime_runtime=1000)))[0]
        pytest.skip("this kernel has no real-time groups")
    parent = os.path.dirname(group.paths()["cpu"])
    with pytest.raises(InvalidArgument, match=r"no real-time budget to share: write one to .*/cpu\.rt_runtime_us"):
        group.apply(Resources(cpu=CPU(realtime_runtime=1000)))
    groups = [parent]
    while not os.path.ismount(groups[0]):
        groups.insert(0, os.path.dirname(groups[0]))
    above = [directory for directory in groups if controlfile.read_int(directory, "cpu.rt_runtime_us") == 0]
    try:
        for directory in above:
            controlfile.write(directory, "cpu.rt_runtime_us", "1000")
        group.apply(Resources(cpu=CPU(realtime_runtime=1000, realtime_period=1_000_000)))
        assert controlfile.read_int(group.paths()["cpu"], "cpu.rt_runtime_us") == 1000
        with pytest.raises(InvalidArgument, match=r"cpu\.rt_runtime_us"):
            group.apply(Resources(cpu=CPU(realtime_runtime=2000)))
    finally:
        for directory in (group.paths()["cpu"], *reversed(above)):
            controlfile.write(directory, "cpu.rt_runtime_us", "0")


def test_memory_oddities(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "memory"):
        pytest.skip("no memory controller here")
    memory = Memory(limit=64 * MIB, reservation=32 * MIB, swappiness=10, disable_oom_killer=True, kernel_tcp=MIB)
    warnings = " ".join(group.apply(Resources(memory=memory)))
    assert value(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)
    if "memory" in group.paths():
        assert value(group, "memory", "memory.swappiness", "") == "10"
        assert "oom_kill_disable 1" in value(group, "memory", "memory.oom_control", "")
        group.apply(Resources(memory=Memory(disable_oom_killer=False)))
        assert "oom_kill_disable 0" in value(group, "memory", "memory.oom_control", "")
        counted = stats.read(group.paths()).memory
        assert counted.both is not None and counted.kernel is not None and counted.kernel_tcp is not None
        assert counted.hierarchical
    else:
        assert "swappiness" in warnings and "OomKillDisable" in warnings and "kernel memory" in warnings


def test_a_limit_of_zero_is_none_given(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if not has(group, "memory"):
        pytest.skip("no memory controller here")
    group.apply(Resources(memory=Memory(limit=64 * MIB, swap=96 * MIB, reservation=32 * MIB)))
    assert group.apply(Resources(memory=Memory(limit=0, swap=0, reservation=0), pids=Pids(limit=0))) == []
    assert stats.read(group.paths()).memory.limit == 64 * MIB
    assert value(group, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MIB)


def test_a_limit_below_what_is_used_kills_when_nobody_is_to_check(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if "memory" in group.paths() or not has(group, "memory"):
        pytest.skip("v2's rule")
    reader, writer = os.pipe()

    def hold() -> int:
        memory = mmap.mmap(-1, 24 * MIB)
        memory.write(b"x" * (24 * MIB))
        os.write(writer, b"x")
        return pause()

    group.apply(Resources(memory=Memory(limit=64 * MIB, swap=64 * MIB)))
    child = spawn(group, hold)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    group.apply(Resources(memory=Memory(limit=1 * MIB, swap=1 * MIB, check_before_update=False)))
    assert child.wait() == -signal.SIGKILL


def test_block_io_weights_and_throttles(make_group: Callable[..., Group]) -> None:
    group = make_group()
    device = block_device()
    if (not has(group, "blkio") and not has(group, "io")) or device is None:
        pytest.skip("no block io controller, or no disk, here")
    major, minor = device
    rates = {"major": major, "minor": minor}
    warnings = group.apply(Resources(block_io=BlockIO(
        weight=300, leaf_weight=200, throttle_read_bps_device=[ThrottleDevice(**rates, rate=MIB)],
        throttle_write_iops_device=[ThrottleDevice(**rates, rate=100)],
    )))
    assert any("leaf_weight" in warning for warning in warnings)
    assert f"{major}:{minor}" in value(group, "blkio", "blkio.throttle.read_bps_device", "io.max")
    assert "100" in value(group, "blkio", "blkio.throttle.write_iops_device", "io.max")
    group.apply(Resources(block_io=BlockIO(
        throttle_read_bps_device=[ThrottleDevice(**rates, rate=0)],
        throttle_write_iops_device=[ThrottleDevice(**rates, rate=0)],
    )))
    assert value(group, "blkio", "blkio.throttle.read_bps_device", "io.max") == ""
    assert value(group, "blkio", "blkio.throttle.write_iops_device", "io.max") == ""


def test_a_weight_for_a_device_that_takes_none_is_refused(make_group: Callable[..., Group]) -> None:
    group = make_group()
    device = block_device()
    directory = group.paths().get("blkio", "")
    if device is None or not controlfile.exists(directory, "blkio.bfq.weight_device"):
        pytest.skip("no disk, or no BFQ, here")
    with open(f"/sys/dev/block/{device[0]}:{device[1]}/queue/scheduler") as file:
        if "[bfq]" in file.read():
            pytest.skip("the disk is scheduled by BFQ")
    wanted = Resources(block_io=BlockIO(weight_device=[WeightDevice(major=device[0], minor=device[1], weight=300)]))
    with pytest.raises(Unsupported, match=rf"cannot write '{device[0]}:{device[1]} 300' to .*blkio\.bfq\.weight_dev"):
        group.apply(wanted)
    with pytest.raises(Unsupported, match=r"blockIO\.leafWeight cannot be set: .*/blkio\.leaf_weight does not exist"):
        group.require(Resources(block_io=BlockIO(leaf_weight=200)))


def block_device() -> tuple[int, int] | None:
    """A whole disk: partitions have no limits of their own."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram", "sr", "fd")):
            major, _, minor = controlfile.read(f"/sys/block/{name}", "dev").strip().partition(":")
            return int(major), int(minor)
    return None


def test_huge_pages(make_group: Callable[..., Group], host: Host) -> None:
    group = make_group()
    sizes = features.read(host).huge_page_sizes
    if not sizes:
        pytest.skip("no hugetlb controller here")
    size = sizes[0]
    assert group.apply(Resources(hugepage_limits=[HugepageLimit(page_size=size, limit=0)])) == []
    assert stats.read(group.paths()).hugetlb[size].limit == 0
    directory = group.paths().get("hugetlb", group.paths().get("unified", ""))
    reserved = "rsvd.limit_in_bytes" if "hugetlb" in group.paths() else "rsvd.max"
    assert controlfile.read(directory, f"hugetlb.{size}.{reserved}").strip() == "0"
    with pytest.raises(Unsupported, match="3MB"):
        group.apply(Resources(hugepage_limits=[HugepageLimit(page_size="3MB", limit=0)]))


def test_rdma_needs_a_device(make_group: Callable[..., Group]) -> None:
    group = make_group()
    resources = Resources(rdma={"mlx4_0": Rdma(hca_handles=2, hca_objects=2000)})
    if "rdma" in group.paths() or (group.host.mode == "v2" and "rdma" in controlfile.read(
            group.host.v2, "cgroup.controllers").split()):
        with pytest.raises(InvalidArgument, match=r"cannot write 'mlx4_0 hca_handle=2 hca_object=2000' to .*rdma\.max"):
            group.apply(resources)
        with pytest.raises(InvalidArgument, match="RDMA device name"):
            group.apply(Resources(rdma={"a b": Rdma(hca_handles=2)}))
    else:
        assert "RDMA" in group.apply(resources)[0]


def test_pressure_is_measured_on_v2(make_group: Callable[..., Group]) -> None:
    group = make_group()
    found = stats.read(group.paths())
    if group.host.mode != "v2" or not os.path.exists("/proc/pressure/cpu"):
        assert found.cpu.pressure is None or group.host.mode != "v1"
        return
    assert found.cpu.pressure is not None
    assert set(found.cpu.pressure.some) == {"avg10", "avg60", "avg300", "total"}


def test_cpu_time_of_each_cpu_is_counted_on_v1(make_group: Callable[..., Group]) -> None:
    group = make_group()
    child = spawn(group, lambda: touch(MIB))
    assert child.wait() == 0
    cpu = stats.read(group.paths()).cpu
    assert cpu.usage_ns > 0
    if "cpuacct" in group.paths():
        assert len(cpu.per_cpu_ns) == len(cpu.per_cpu_user_ns) == len(cpu.per_cpu_system_ns) >= 1
        assert sum(cpu.per_cpu_ns) == cpu.usage_ns


def test_network_marks_are_v1s_and_refused_where_they_cannot_be(make_group: Callable[..., Group]) -> None:
    """net_cls and net_prio: asked for by name, refused by the file's name, ignored on v2 as runc does."""
    group = make_group()
    wanted = Resources(network=Network(class_id=0x100001, priorities=[InterfacePriority(name="lo", priority=5)]))
    if group.host.mode == "v2":
        group.require(wanted)
        assert group.apply(wanted) == []
    elif {"net_cls", "net_prio"} <= set(group.paths()):
        group.require(wanted)
        assert group.apply(wanted) == []
        assert controlfile.read_int(group.paths()["net_cls"], "net_cls.classid") == 0x100001
        assert "lo 5" in controlfile.read(group.paths()["net_prio"], "net_prio.ifpriomap").split("\n")
    else:
        with pytest.raises(Unsupported, match=r"network\.(classID|priorities) cannot be set"):
            group.require(wanted)
        assert group.apply(wanted)
    with pytest.raises(InvalidArgument, match="interface name"):
        limits_v1.apply_network({}, Network(priorities=[InterfacePriority(name="a b", priority=1)]))
