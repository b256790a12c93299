"""Being woken when a group runs out of memory."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest
from tests import cgroup_fixture
from tests.cgroup_fixture import MIB, has, pause, spawn, started, touch

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux.cgroup import Group, oom
from sampan.oci.runtime import Memory, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


@pytest.fixture
def group() -> Iterator[Group]:
    with cgroup_fixture.groups() as create:
        group = create()
        if not has(group, "memory"):
            pytest.skip("no memory controller here")
        group.apply(Resources(memory=Memory(limit=24 * MIB, swap=24 * MIB)))
        yield group


@pytest.fixture
def events(group: Group) -> Iterator[oom.OomEvents]:
    found = oom.OomEvents(group.paths())
    yield found
    found.close()


def test_each_kill_is_told(group: Group, events: oom.OomEvents) -> None:
    assert events.wait(0) == 0
    stays = started(group)
    for _ in range(2):
        assert spawn(group, lambda: touch(64 * MIB)).wait() == -signal.SIGKILL
        assert select.select([events.fd], [], [], 5)[0]
        assert events.wait(5) == 1
        assert events.wait(0) == 0
    group.kill_all()
    stays.wait()


def test_the_end_of_the_group_ends_the_wait(group: Group, events: oom.OomEvents) -> None:
    child = started(group, pause)
    assert events.wait(0) == 0
    group.remove()
    child.wait()
    assert list(events) == []
    assert events.take() is None
    with pytest.raises((Unsupported, FileNotFoundError)):
        oom.OomEvents(group.paths())


def test_it_is_told_in_time_to_those_who_wait(group: Group, events: oom.OomEvents) -> None:
    """The waiter begins before anything happens, in another process."""
    pid = os.fork()
    if pid == 0:
        os._exit(events.wait(30) or 0)
    assert spawn(group, lambda: touch(64 * MIB)).wait() == -signal.SIGKILL
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_pressure(group: Group) -> None:
    try:
        fd, event = oom.open_pressure(group.paths(), "low")
    except Unsupported:
        assert not os.path.exists("/proc/pressure/memory")
        pytest.skip("this kernel does not measure pressure")
    poller = select.poll()
    poller.register(fd, event)
    assert poller.poll(0) == []
    if "memory" in group.paths():  # on v2 a stall must last: too slow for a test

        def fill_the_page_cache() -> int:
            with open(f"/tmp/pressure-{os.getpid()}", "w+b") as file:
                os.unlink(file.name)
                for _ in range(64):
                    file.write(b"x" * MIB)
                    file.flush()
                    os.fdatasync(file.fileno())
            return 0

        assert spawn(group, fill_the_page_cache).wait() == 0
        assert poller.poll(5000)
    os.close(fd)
    with pytest.raises(InvalidArgument, match="low, medium, critical"):
        oom.open_pressure(group.paths(), "high")


def test_without_a_memory_controller_it_says_so(group: Group, tmp_path: os.PathLike[str]) -> None:
    for open_one in (oom.OomEvents, lambda paths: oom.open_pressure(paths, "low")):
        with pytest.raises(Unsupported, match="memory"):
            open_one({"unified": str(tmp_path)})


