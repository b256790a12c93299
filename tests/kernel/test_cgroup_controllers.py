"""Limits of each controller, with processes that run into them."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from tests import cgroup_fixture
from tests.cgroup_fixture import MIB, has, pause, spawn, started, touch

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import Group, Host, controlfile, stats
from sampan.oci.runtime import CPU, BlockIO, Memory, Pids, Resources, ThrottleDevice

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


@pytest.fixture(name="host")
def this_host() -> Host:
    return cgroup_fixture.host()


@pytest.fixture
def make() -> Iterator[Callable[..., Group]]:
    with cgroup_fixture.groups() as create:
        yield create


def test_the_memory_limit_kills_and_says_so(make: Callable[..., Group]) -> None:
    group = make()
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


def test_memory_limits_go_up_and_down_while_it_runs(make: Callable[..., Group]) -> None:
    group = make()
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


def test_a_limit_below_what_is_used_is_refused(make: Callable[..., Group]) -> None:
    group = make()
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


def test_a_limit_over_the_swap_limit_is_refused(make: Callable[..., Group]) -> None:
    group = make()
    if "memory" not in group.paths():
        pytest.skip("v1's rule")
    group.apply(Resources(memory=Memory(limit=32 * MIB, swap=32 * MIB)))
    with pytest.raises(InvalidArgument, match="update the memoryswap at the same time"):
        group.apply(Resources(memory=Memory(limit=64 * MIB)))


def test_the_pids_limit_stops_a_fork_bomb(make: Callable[..., Group]) -> None:
    group = make()
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


def test_the_cpu_quota_throttles(make: Callable[..., Group]) -> None:
    group = make()
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


def test_the_cpuset_pins(make: Callable[..., Group], host: Host) -> None:
    group = make()
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


def test_throttled_devices_must_exist(make: Callable[..., Group]) -> None:
    group = make()
    if not has(group, "blkio") and not has(group, "io"):
        pytest.skip("no block io controller here")
    device = ThrottleDevice(major=4000, minor=1, rate=MIB)
    with pytest.raises(InvalidArgument, match="cannot write '4000:1"):
        group.apply(Resources(block_io=BlockIO(throttle_read_bps_device=[device])))
    assert stats.read(group.paths()).block.service_bytes == []


def test_unified_settings(make: Callable[..., Group]) -> None:
    group = make()
    if group.host.mode != "v2":
        with pytest.raises(Unsupported, match="cgroup v2"):
            group.apply(Resources(unified={"memory.high": "1000000"}))
        return
    group.apply(Resources(unified={"memory.high": "104857600"}))
    assert controlfile.read(group.paths()["unified"], "memory.high").strip() == "104857600"
    for name in ("../cgroup.procs", "cgroup.procs", "a/b", "memory"):
        with pytest.raises(InvalidArgument, match="invalid unified cgroup setting"):
            group.apply(Resources(unified={name: "1"}))


def test_stats_of_a_group_that_is_gone_are_zero(make: Callable[..., Group]) -> None:
    group = make()
    paths = group.paths()
    group.remove()
    assert stats.read(paths).memory.usage == 0
    assert stats.oom_kills(paths) == 0
