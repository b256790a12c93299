"""Groups with real processes, on whichever hierarchies this host has."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

import pytest
from tests.cgroup_fixture import PARENT, burn_until_killed, has, pause, spawn, started

from sampan.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unsupported
from sampan.lean import structs
from sampan.linux.cgroup import Group, Host, cgroupfs, controlfile, features, processes, prune, stats
from sampan.oci.runtime import CPU, HugepageLimit, Memory, Pids, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


def membership(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/cgroup") as file:
        rows = [line.strip().split(":", 2) for line in file]
    return {name: path for _, names, path in rows for name in names.split(",")}


def test_a_host_survives_json_and_pickles(host: Host) -> None:
    assert structs.decode(structs.encode(host), type=Host) == host
    assert host.mode in ("v1", "v2", "hybrid")
    assert features.read(host).cpu_count >= 1


def test_a_child_joins_every_hierarchy_itself(make_group: Callable[..., Group]) -> None:
    group = make_group()
    child = started(group)
    try:
        assert group.procs() == [child.pid]
        inside = membership(child.pid)
        for controller in group.paths():
            assert inside["" if controller == "unified" else controller].endswith(f"/{group.path}")
    finally:
        group.kill_all()
        assert child.wait() == -signal.SIGKILL


def test_a_process_is_added_by_its_pid(make_group: Callable[..., Group]) -> None:
    group = make_group()
    child = spawn(None, pause)
    group.add(child.pid)
    assert group.procs() == [child.pid]
    group.kill_all()
    assert child.wait() == -signal.SIGKILL


def test_a_group_is_opened_again_and_removed_with_processes_inside(
    make_group: Callable[..., Group], host: Host
) -> None:
    group = make_group()
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


def test_sub_cgroups_made_inside_go_too(make_group: Callable[..., Group]) -> None:
    group = make_group()
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


def test_sub_cgroups_deeper_than_a_path_can_say_are_removed(make_group: Callable[..., Group]) -> None:
    group = make_group()
    directory = next(iter(group.paths().values()))
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(6):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    group.remove()
    assert not os.path.exists(directory)


def test_sub_cgroups_that_come_and_go_hide_nobody(make_group: Callable[..., Group]) -> None:
    """Whoever makes and removes a group beside others must not keep a walk through all of them from its end."""
    group = make_group()
    directory = next(iter(group.paths().values()))
    inner = [f"{directory}/{name}" for name in ("a", "z")]
    for name in inner:
        os.mkdir(name)
    short_lived = [f"{name}/{number}" for number in range(8) for name in inner]
    child = spawn(None, pause)
    stop, stopped = os.pipe()

    def come_and_go() -> int:
        while not select.select([stop], [], [], 0)[0]:
            for name in short_lived:
                os.mkdir(name)
            for name in short_lived:
                os.rmdir(name)
        return 0

    controlfile.set_value(inner[0], "cgroup.procs", child.pid)
    restless = spawn(None, come_and_go)
    try:
        missed = sum(processes.listing(directory) != [child.pid] for _ in range(600))
    finally:
        os.write(stopped, b"x")
        assert restless.wait() == 0
        os.close(stop)
        os.close(stopped)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert missed == 0


def test_a_group_in_use_is_not_taken_over_and_an_empty_one_is_made_anew(
    make_group: Callable[..., Group], host: Host
) -> None:
    group = make_group()
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


def test_a_failure_leaves_nothing(make_group: Callable[..., Group], host: Host) -> None:
    make_group("neighbour")
    path = f"{PARENT}/broken"
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


def test_a_failure_says_why_though_somebody_uses_what_it_made(
    make_group: Callable[..., Group], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two makers at once below a parent that neither found: one fails, and the parent is the other's to keep."""
    parent = make_group("used").path.rpartition("/")[0] + "/common"
    others = set(cgroupfs.directories(host, f"{parent}/other").values())

    def while_it_fails(*arguments: object, **_: object) -> None:
        if host.mode == "v2" or str(arguments[0]).endswith("/mine"):
            for directory in others:
                os.mkdir(directory)
            raise InvalidArgument("a bad value")

    monkeypatch.setattr(cgroupfs, "enable" if host.mode == "v2" else "_fill_cpuset", while_it_fails)
    with pytest.raises(InvalidArgument, match="a bad value"):
        Group.create(host, f"{parent}/mine")
    monkeypatch.undo()
    try:
        assert not Group.at(host, f"{parent}/mine").exists()
        assert all(os.path.isdir(directory) for directory in others)
    finally:
        Group.at(host, f"{parent}/other").remove()
        prune(host, parent)



@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "a//b", ".", "a/.", "a\0b", "a\nb", "x" * 256, "a/" * 4000])
def test_a_bad_path_is_refused(host: Host, path: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        Group.create(host, path)


def test_freeze_stops_and_thaw_goes_on(make_group: Callable[..., Group]) -> None:
    group = make_group()
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


def test_without_the_v2_hierarchy_everything_works_too(make_group: Callable[..., Group], host: Host) -> None:
    if host.mode != "hybrid" or "freezer" not in host.v1:
        pytest.skip("a hybrid host can pretend to be v1")
    pretended = Host("v1", host.v1)
    group = Group.create(pretended, f"{PARENT}/v1")
    try:
        make_group("parents")
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
        prune(pretended, os.path.dirname(group.path))


def test_a_group_is_reopened_from_what_was_written_down(make_group: Callable[..., Group], host: Host) -> None:
    group = make_group()
    again = Group.reopen(structs.decode(structs.encode(host), type=Host), group.paths())
    assert (again.path, again.paths()) == (group.path, group.paths())
    assert again.exists()
    group.remove()
    assert not again.exists()
    again.remove()
    with pytest.raises(InvalidArgument, match="no cgroup hierarchy"):
        Group.reopen(host, {"unified": "/etc/passwd"})


def test_a_signal_reaches_all(make_group: Callable[..., Group]) -> None:
    group = make_group()
    children = [started(group) for _ in range(3)]
    group.signal_all(signal.SIGTERM)
    assert [child.wait() for child in children] == [-signal.SIGTERM] * 3
    assert not group.frozen()
    group.signal_all(signal.SIGTERM)  # nobody there
    child = started(group)
    group.signal_all(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize("v2", [True, False])
def test_what_a_group_above_stops_is_not_said_to_go_on(host: Host, v2: bool) -> None:
    if not (host.v2_freezer if v2 else "freezer" in host.v1):
        pytest.skip("no such freezer here")
    own = host if v2 else host.without_v2()
    below = Group.create(own, f"{PARENT}/above/below")
    above = Group.at(own, f"{PARENT}/above")
    try:
        above.freeze()
        below.freeze()
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"unable to thaw cgroup .*below: .*above.* is frozen"):
            below.thaw()
        assert time.monotonic() - began < 5
        above.thaw()
        below.thaw()
        assert not below.frozen()
    finally:
        below.remove()
        prune(own, above.path)


def test_frozen_says_so(make_group: Callable[..., Group]) -> None:
    group = make_group()
    child = started(group)
    assert not group.frozen()
    group.freeze()
    assert group.frozen()
    group.signal_all(signal.SIGTERM)
    assert group.frozen()
    group.thaw()
    assert not group.frozen()
    assert child.wait() == -signal.SIGTERM
    group.remove()
    assert not group.frozen()


def test_where_a_process_went_below(make_group: Callable[..., Group]) -> None:
    group = make_group()
    child = started(group)
    try:
        assert group.of_process(child.pid).paths() == group.paths()
        assert group.of_process(os.getpid()) is group
        if group.host.mode == "v2":
            directory = group.paths()["unified"]
            os.mkdir(f"{directory}/init")
            controlfile.write(f"{directory}/init", "cgroup.procs", str(child.pid))
            controlfile.write(directory, "cgroup.subtree_control", "+pids")
            with pytest.raises(OSError, match="busy"):
                spawn(group, pause)
            below = group.of_process(child.pid)
            assert below.path == f"{group.path}/init"
            other = spawn(below, pause)
            assert sorted(group.procs()) == sorted([child.pid, other.pid])
            group.kill_all()
            other.wait()
    finally:
        group.kill_all()
        child.wait()


def test_limits_without_files_are_refused_by_name(make_group: Callable[..., Group], host: Host) -> None:
    group = make_group()
    group.require(Resources(devices=[], pids=Pids(limit=-1)))
    if has(group, "pids"):
        group.require(Resources(pids=Pids(limit=5)))
    with pytest.raises(Unsupported, match=r"linux\.resources\.hugepageLimits cannot be set: .*(hugetlb|3MB)"):
        group.require(Resources(hugepage_limits=[HugepageLimit(page_size="3MB", limit=0)]))
    lacking = Group(Host("v1", {"memory": "/nowhere"}), "x", {"memory": "/nowhere/x"})
    with pytest.raises(Unsupported, match=r"memory\.limit cannot be set: /nowhere/x/memory\.limit_in_bytes "):
        lacking.require(Resources(memory=Memory(limit=1)))
    with pytest.raises(Unsupported, match=r"cpu\.shares cannot be set: no cpu cgroup hierarchy is mounted"):
        lacking.require(Resources(cpu=CPU(shares=1)))


def test_a_group_that_somebody_else_removes_meanwhile_is_gone(make_group: Callable[..., Group]) -> None:
    """As systemd does when the last process of a scope ends."""
    group = make_group()
    for directory in group.paths().values():
        if os.path.isdir(directory):
            os.rmdir(directory)
    group.kill_all()
    group.signal_all(signal.SIGTERM)
    assert group.procs() == [] and not group.frozen() and not group.exists()
    for stop_or_go in (group.freeze, group.thaw):
        with pytest.raises(Conflict, match="is gone"):
            stop_or_go()
    group.remove()


def test_signals_race_with_removal(make_group: Callable[..., Group]) -> None:
    for _ in range(6):
        group = make_group()
        child = started(group)
        pid = os.fork()
        if pid == 0:  # a systemd: removes the group as soon as it is empty
            select.select([child.pidfd], [], [])
            directories = set(group.paths().values())
            while directories:
                directories = {it for it in directories if os.path.isdir(it) and not removed(it)}
            os._exit(0)
        group.signal_all(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
        group.remove()
        os.waitpid(pid, 0)


def removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except OSError:
        return False
    return True
