"""The systemd driver under a real systemd: skipped where there is none (scripts/test-in-vm has one)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.linux.cgroup import Group, Host, controlfile, detect, stats, systemd
from sampan.oci.runtime import CPU, DeviceCgroup, HugepageLimit, Memory, Pids, Resources

MIB = 1 << 20
BOOTED = os.path.isdir("/run/systemd/system")
needs_systemd = pytest.mark.skipif(os.geteuid() != 0 or not BOOTED, reason="needs root and systemd")
RULES = [
    DeviceCgroup(allow=False), DeviceCgroup(allow=True, type="c", access="m"),
    DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rw"),
]


@pytest.fixture(scope="module")
def host() -> Host:
    return detect(others=True)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def create(host: Host, child: subprocess.Popen[bytes]) -> Iterator[Callable[..., Group]]:
    groups: list[Group] = []

    def make(path: str = "", resources: Resources | None = None, **options: dict[str, str]) -> Group:
        group = systemd.create(host, path or f"system.slice:sampan:{os.getpid()}", child.pid, resources, **options)
        groups.append(group)
        return group

    yield make
    for group in groups:
        group.remove()


def show(unit: str, name: str) -> str:
    command = ["systemctl", "show", "-p", name, "--value", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def limits(group: Group) -> tuple[int | None, ...]:
    found = stats.read(group.paths())
    return found.memory.limit, found.pids.limit


def file_of(group: Group, v1: str, v1_file: str, v2_file: str) -> str:
    paths = group.paths()
    return controlfile.read(paths[v1], v1_file) if v1 in paths else controlfile.read(paths["unified"], v2_file)


@needs_systemd
def test_a_scope_holds_the_process_and_goes_with_it(
    create: Callable[..., Group], child: subprocess.Popen[bytes], host: Host
) -> None:
    group = create(resources=Resources(memory=Memory(limit=64 * MIB), pids=Pids(limit=9)))
    unit = f"sampan-{os.getpid()}.scope"
    assert group.path == f"system.slice/{unit}"
    assert (show(unit, "Delegate"), show(unit, "Slice"), show(unit, "DefaultDependencies")) == (
        "yes", "system.slice", "no")
    assert limits(group) == (64 * MIB, 9)
    if host.mode == "v2":
        assert group.procs() == [child.pid]
    again = systemd.open(host, f":sampan:{os.getpid()}", group.paths())
    assert again.paths() == group.paths() == systemd.open(host, f"system.slice:sampan:{os.getpid()}", {}).paths()
    for fd in group.open_join_fds():
        os.write(fd, str(child.pid).encode())
        os.close(fd)
    assert again.procs() == [child.pid]
    again.remove()
    assert child.wait() == -signal.SIGKILL
    assert not again.exists()
    assert show(unit, "LoadState") == "not-found"
    again.remove()  # idempotent


@needs_systemd
def test_a_reload_undoes_no_limit(create: Callable[..., Group]) -> None:
    group = create(resources=Resources(
        memory=Memory(limit=64 * MIB), pids=Pids(limit=9), cpu=CPU(shares=512, quota=20_000, period=50_000, cpus="0"),
        devices=RULES,
    ))

    def all_of_them() -> list[str]:
        found = [
            file_of(group, "memory", "memory.limit_in_bytes", "memory.max"),
            file_of(group, "pids", "pids.max", "pids.max"),
            file_of(group, "cpu", "cpu.shares", "cpu.weight"), file_of(group, "cpu", "cpu.cfs_quota_us", "cpu.max"),
            file_of(group, "cpuset", "cpuset.cpus", "cpuset.cpus"),
        ]
        devices = group.paths().get("devices")
        return found if devices is None else [*found, controlfile.read(devices, "devices.list")]

    before = all_of_them()
    assert group.frozen() is False
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert sorted(all_of_them()[-1].split("\n")) == sorted(before[-1].split("\n"))
    assert all_of_them()[:5] == before[:5]
    assert group.apply(Resources(memory=Memory(limit=128 * MIB), pids=Pids(limit=-1), devices=RULES[:1])) == []
    assert limits(group) == (128 * MIB, None)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert limits(group) == (128 * MIB, None)


@needs_systemd
def test_a_reload_undoes_no_part_of_an_update(create: Callable[..., Group]) -> None:
    """systemd has one word for quota and period, and one for swap that needs to know the memory limit."""
    group = create(resources=Resources(memory=Memory(limit=64 * MIB), cpu=CPU(quota=20_000, period=50_000, shares=512)))

    def bandwidth() -> list[str]:
        return [file_of(group, "cpu", f"cpu.{v1}", f"cpu.{v2}") for v1, v2 in (
            ("cfs_quota_us", "max"), ("shares", "weight"), ("cfs_period_us", "max"))]

    busy = CPU(idle=0, shares=None if group.host.mode == "v2" else 512)
    for wanted in (CPU(period=100_000), CPU(quota=60_000), CPU(idle=1), busy, CPU(quota=-1), CPU(period=40_000)):
        assert group.apply(Resources(cpu=wanted)) == []
        before = bandwidth()
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        if wanted.quota == -1 or before[0].startswith(("max", "-1")):
            assert bandwidth()[0].split(" ")[0] == before[0].split(" ")[0]  # of no quota no period is kept
            assert bandwidth()[1] == before[1]
        else:
            assert bandwidth() == before
    if group.host.mode == "v2":
        assert group.apply(Resources(memory=Memory(swap=80 * MIB))) == []
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        assert stats.read(group.paths()).memory.swap_limit == 16 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")
def test_half_of_a_pair_is_completed_by_what_is_in_force(make_group: Callable[..., Group]) -> None:
    group = make_group()
    v2 = group.host.mode == "v2"

    def whole(cpu: CPU) -> tuple[int | None, int | None]:
        group.apply(Resources(cpu=cpu))
        found = systemd.in_force(group.paths(), v2, Resources(cpu=cpu)).cpu
        return (found.quota, found.period) if found is not None else (None, None)

    assert whole(CPU(quota=20_000, period=50_000)) == (20_000, 50_000)
    assert whole(CPU(quota=10_000)) == (10_000, 50_000)
    assert whole(CPU(period=40_000)) == (10_000, 40_000)
    assert whole(CPU(shares=5)) == (None, None)
    assert whole(CPU(quota=-1)) == (-1, 40_000)
    assert whole(CPU(period=50_000)) == (-1, 50_000)
    given = Resources(memory=Memory(swap=96 * MIB), cpu=CPU(quota=5_000))
    group.apply(Resources(memory=Memory(limit=64 * MIB)))
    found = systemd.in_force(group.paths(), v2, given)
    assert found.memory == Memory(limit=64 * MIB if v2 else None, swap=96 * MIB)
    assert given == Resources(memory=Memory(swap=96 * MIB), cpu=CPU(quota=5_000))


@needs_systemd
def test_what_the_kernel_refuses_systemd_does_not_hear_of(create: Callable[..., Group]) -> None:
    group = create(resources=Resources(memory=Memory(limit=64 * MIB)))
    with pytest.raises(InvalidArgument, match="cpuset"):
        group.apply(Resources(cpu=CPU(cpus="4000"), memory=Memory(limit=96 * MIB)))
    value = show(f"sampan-{os.getpid()}.scope", "MemoryMax" if group.host.mode == "v2" else "MemoryLimit")
    assert value == str(64 * MIB)


@needs_systemd
def test_nested_slices_and_annotations(create: Callable[..., Group]) -> None:
    group = create("sampantest-a.slice::one", annotations={
        "org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "other": "x",
    })
    assert group.path == "sampantest.slice/sampantest-a.slice/one.scope"
    assert show("one.scope", "TimeoutStopUSec") == "7s"
    assert show("one.scope", "CollectMode") == "inactive-or-failed"
    group.remove()
    subprocess.run(["systemctl", "stop", "sampantest.slice"], check=True)


@needs_systemd
def test_a_slice_of_its_own(create: Callable[..., Group], child: subprocess.Popen[bytes]) -> None:
    group = create("sampantest.slice::sampantest-own.slice", Resources(pids=Pids(limit=5)))
    assert group.path == "sampantest.slice/sampantest-own.slice"
    assert limits(group)[1] == 5
    assert group.procs() == [child.pid]
    group.remove()
    subprocess.run(["systemctl", "stop", "sampantest.slice"], check=True)


@needs_systemd
def test_a_unit_in_use_is_not_taken_over_and_a_failure_leaves_none(
    create: Callable[..., Group], child: subprocess.Popen[bytes], host: Host
) -> None:
    group = create()
    with pytest.raises(Conflict):
        systemd.create(host, f"system.slice:sampan:{os.getpid()}", child.pid, None)
    assert group.exists()
    with pytest.raises(InvalidArgument, match="annotation"):
        create(":sampan:broken", annotations={"org.systemd.property.CollectMode": "'"})
    with pytest.raises(InvalidArgument):
        create(":sampan:broken", annotations={"org.systemd.property.Nonsense": "true"})
    with pytest.raises(InvalidArgument):
        create(":sampan:broken", Resources(cpu=CPU(mems="900")))
    with pytest.raises(Unsupported, match="3MB"):
        create(":sampan:broken", Resources(hugepage_limits=[HugepageLimit(page_size="3MB", limit=0)]))
    assert show("sampan-broken.scope", "LoadState") == "not-found"
    assert not os.path.exists(f"{next(iter(group.paths().values()))}/../sampan-broken.scope")


@pytest.mark.skipif(BOOTED, reason="there is systemd")
def test_without_systemd_it_says_so(host: Host) -> None:
    with pytest.raises(Unsupported, match="systemd is not running"):
        systemd.create(host, ":a:b", os.getpid(), None)
