"""Groups with real processes, on whichever hierarchies this host has."""

from __future__ import annotations

import mmap
import os
import select
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.lean import structs
from sampan.linux import clone
from sampan.linux.cgroup import Group, Host, controlfile, detect, device_program, features, join, stats
from sampan.oci.runtime import CPU, BlockIO, DeviceCgroup, Memory, Pids, Resources, ThrottleDevice

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")

MIB = 1 << 20


@pytest.fixture(scope="module")
def host() -> Host:
    return detect()


@pytest.fixture
def make(host: Host) -> Iterator[Callable[..., Group]]:
    parent = f"sampan-test-{os.getpid()}"
    groups: list[Group] = []

    def create(name: str = "one", **options: list[str]) -> Group:
        groups.append(Group.create(host, f"{parent}/{name}", **options))
        return groups[-1]

    yield create
    for group in groups:
        group.remove()
    for mount_point in {*host.v1.values(), *filter(None, [host.v2])}:
        if os.path.isdir(f"{mount_point}/{parent}"):
            os.rmdir(f"{mount_point}/{parent}")


@dataclass
class Child:
    pid: int
    pidfd: int

    def wait(self) -> int:
        """Exit status, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)

    def ended(self, timeout: float = 5) -> bool:
        return bool(select.select([self.pidfd], [], [], timeout)[0])


def spawn(group: Group | None, action: Callable[[], int]) -> Child:
    """A child that joins the group as the runtime's do, and then does something."""
    fds = group.open_join_fds() if group else []
    v2 = group.open_v2_fd() if group else None
    pid, pidfd = clone.clone3(0, -1 if v2 is None else v2)
    if pid == 0:
        status = 99
        try:
            join(fds)
            status = action()
        finally:
            os._exit(status)
    for fd in [*fds, *([] if v2 is None else [v2])]:
        os.close(fd)
    return Child(pid, pidfd)


def pause() -> int:
    while True:
        signal.pause()


def started(group: Group, action: Callable[[], int] = pause) -> Child:
    """A child that is in the group already."""
    reader, writer = os.pipe()

    def tell() -> int:
        os.write(writer, b"x")
        return action()

    child = spawn(group, tell)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return child


def membership(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/cgroup") as file:
        rows = [line.strip().split(":", 2) for line in file]
    return {name: path for _, names, path in rows for name in names.split(",")}


def touch(size: int) -> int:
    memory = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    return 0


def burn_until_killed() -> int:
    while True:
        pass


def has(group: Group, controller: str) -> bool:
    return controller in group.paths() or controller in group.host.v2_controllers


def test_a_host_survives_json_and_pickles(host: Host) -> None:
    assert structs.decode(structs.encode(host), type=Host) == host
    assert host.mode in ("v1", "v2", "hybrid")
    assert features.read(host).cpu_count >= 1


def test_a_child_joins_every_hierarchy_itself(make: Callable[..., Group]) -> None:
    group = make()
    child = started(group)
    try:
        assert group.procs() == [child.pid]
        inside = membership(child.pid)
        for controller in group.paths():
            assert inside["" if controller == "unified" else controller].endswith(f"/{group.path}")
    finally:
        group.kill_all()
        assert child.wait() == -signal.SIGKILL


def test_a_process_is_added_by_its_pid(make: Callable[..., Group]) -> None:
    group = make()
    child = spawn(None, pause)
    group.add(child.pid)
    assert group.procs() == [child.pid]
    group.kill_all()
    assert child.wait() == -signal.SIGKILL


def test_a_group_is_opened_again_and_removed_with_processes_inside(make: Callable[..., Group], host: Host) -> None:
    group = make()
    children = [started(group) for _ in range(3)]
    again = Group.open(host, group.path)
    assert again.paths() == group.paths()
    assert sorted(again.procs()) == sorted(child.pid for child in children)
    again.remove()
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 3
    assert not any(os.path.exists(directory) for directory in group.paths().values())
    again.remove()  # idempotent
    with pytest.raises(NotFound):
        Group.open(host, group.path)


def test_sub_cgroups_made_inside_go_too(make: Callable[..., Group]) -> None:
    group = make()
    directory = next(iter(group.paths().values()))
    os.makedirs(f"{directory}/a/b/c")
    os.mkdir(f"{directory}/d")
    if "cpuset" not in group.paths() or group.paths()["cpuset"] != directory:
        child = started(group)
        with open(f"{directory}/a/b/c/cgroup.procs", "w") as file:
            file.write(str(child.pid))
        assert group.procs() == [child.pid]
        group.remove()
        assert child.wait() == -signal.SIGKILL
    group.remove()
    assert not os.path.exists(directory)


def test_sub_cgroups_deeper_than_a_path_can_say_are_removed(make: Callable[..., Group]) -> None:
    group = make()
    directory = next(iter(group.paths().values()))
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    group.remove()
    assert not os.path.exists(directory)


def test_a_group_in_use_is_not_taken_over_and_an_empty_one_is_made_anew(
    make: Callable[..., Group], host: Host
) -> None:
    group = make()
    if has(group, "pids"):
        group.apply(Resources(pids=Pids(limit=7)))
        assert stats.read(group.paths()).pids.limit == 7
    fresh = Group.create(host, group.path)
    assert stats.read(fresh.paths()).pids.limit is None
    child = started(fresh)
    with pytest.raises(Conflict, match="in use"):
        Group.create(host, group.path)
    assert fresh.procs() == [child.pid]
    fresh.remove()
    child.wait()


def test_a_failure_leaves_nothing(make: Callable[..., Group], host: Host) -> None:
    make("neighbour")
    path = f"sampan-test-{os.getpid()}/broken"
    last = [*dict.fromkeys([*host.v1.values(), *filter(None, [host.v2])])][-1]
    directory = f"{last}/{path}"
    os.makedirs(f"{directory}/child")
    try:
        with pytest.raises(Conflict):
            Group.create(host, path)
        left = [point for point in host.v1.values() if point != last and os.path.exists(f"{point}/{path}")]
        assert not left
    finally:
        os.rmdir(f"{directory}/child")
        os.rmdir(directory)


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "a//b", ".", "a/.", "a\0b", "a\nb", "x" * 256, "a/" * 4000])
def test_a_bad_path_is_refused(host: Host, path: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        Group.create(host, path)


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


def test_freeze_stops_and_thaw_goes_on(make: Callable[..., Group]) -> None:
    group = make()
    children = [started(group, burn_until_killed) for _ in range(2)]
    group.freeze()
    before = [cpu_time(child.pid) for child in children]
    os.sched_yield()
    assert select.select([], [], [], 0.05) == ([], [], [])
    assert [cpu_time(child.pid) for child in children] == before
    group.thaw()
    while cpu_time(children[0].pid) == before[0]:
        os.sched_yield()
    group.freeze()
    group.kill_all()  # frozen processes too
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 2


def cpu_time(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


def test_without_the_v2_hierarchy_everything_works_too(make: Callable[..., Group], host: Host) -> None:
    if host.mode != "hybrid" or "freezer" not in host.v1:
        pytest.skip("a hybrid host can pretend to be v1")
    pretended = Host("v1", host.v1)
    group = Group.create(pretended, f"sampan-test-{os.getpid()}/v1")
    try:
        make("parents")
        children = [started(group, burn_until_killed) for _ in range(2)]
        group.freeze()
        assert controlfile.read(group.paths()["freezer"], "freezer.state").strip() == "FROZEN"
        group.thaw()
        group.freeze()
        group.kill_all()
        assert [child.wait() for child in children] == [-signal.SIGKILL] * 2
        assert stats.read(group.paths()).cpu.per_cpu_ns
        child = started(group)
        group.remove()
        assert child.wait() == -signal.SIGKILL
    finally:
        group.remove()
        for controller in ("freezer", "cpuacct"):
            os.rmdir(os.path.dirname(group.paths()[controller]))


ONLY_NULL = [
    DeviceCgroup(allow=False),
    DeviceCgroup(allow=True, type="c", access="m"),
    DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rw"),
    DeviceCgroup(allow=True, type="c", major=1, minor=5, access="r"),
]


def try_devices() -> int:
    """A bit for each open that was allowed."""
    allowed = 0
    tries = [("/dev/null", os.O_RDWR), ("/dev/zero", os.O_RDONLY), ("/dev/zero", os.O_RDWR), ("/dev/full", os.O_RDONLY)]
    for bit, (path, flags) in enumerate(tries):
        try:
            os.close(os.open(path, flags))
            allowed |= 1 << bit
        except PermissionError:
            pass
    return allowed


def test_devices_are_denied_unless_allowed(make: Callable[..., Group]) -> None:
    group = make()
    group.apply(Resources(devices=ONLY_NULL))
    assert spawn(group, try_devices).wait() == 0b0011
    if group.host.mode == "v2":
        group.apply(Resources(devices=[DeviceCgroup(allow=True)]))
        assert spawn(group, try_devices).wait() == 0b1111


def test_the_device_program_decides_and_is_replaced(make: Callable[..., Group]) -> None:
    group = make()
    if "unified" not in group.paths():
        pytest.skip("needs a v2 hierarchy")
    directory = group.paths()["unified"]
    device_program.attach(directory, ONLY_NULL)
    assert spawn(group, try_devices).wait() == 0b0011
    device_program.attach(directory, [DeviceCgroup(allow=False, type="c", major=1, minor=5, access="w")])
    assert spawn(group, try_devices).wait() == 0b1011
    device_program.attach(directory, [DeviceCgroup(allow=True)])
    assert spawn(group, try_devices).wait() == 0b1111


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
