"""Groups of those who are not root: what is handed over works, and what is not stays out of reach."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from tests import cgroup_fixture
from tests.cgroup_fixture import spawn, started

from sampan.errors import Conflict, Forbidden, InvalidArgument
from sampan.linux.cgroup import Group, Host, controlfile, delegation, prune
from sampan.oci import runtime as oci
from sampan.oci.runtime import CPU, BlockIO, DeviceCgroup, HugepageLimit, Memory, Network, Pids, Resources
from sampan.runtime.lifecycle import cgroups

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")

NOBODY = 65534


@pytest.fixture(name="host")
def v2_of_this_host() -> Host:
    """Its v2 hierarchy alone, controllers or not: the only one that is delegated."""
    host = cgroup_fixture.host()
    if not host.v2:
        pytest.skip("needs a v2 hierarchy")
    return Host("v2", {}, host.v2, [], True)


@pytest.fixture
def group(host: Host) -> Iterator[Group]:
    path = f"sampan-test-{os.getpid()}"
    group = Group.create(host, path)
    yield group
    group.remove()


def as_nobody(group: Group | None, action: Callable[[], None]) -> None:
    """Run as another user in the group; what is raised there fails the test here."""
    reader, writer = os.pipe()

    def child() -> int:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            action()
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode()[:4000])
            return 1
        return 0

    process = spawn(group, child)
    os.close(writer)
    with open(reader) as said:
        message = said.read()
    assert process.wait() == 0, message


def test_what_is_handed_over_is_the_users(group: Group, host: Host) -> None:
    delegation.hand_over(group, NOBODY)
    directory = group.paths()["unified"]
    owned = {name for name in os.listdir(directory) if os.stat(f"{directory}/{name}").st_uid == NOBODY}
    assert {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= owned <= set(delegation.delegated_files())

    def use_it() -> None:
        assert delegation.may_create(host, f"{group.path}/a")
        assert delegation.is_rootless()
        made = Group.create(host, f"{group.path}/a")
        made.add(os.getpid())
        assert delegation.own_path(host) == f"/{made.path}"
        beside = cgroups.create(host, "", "container", None)
        assert beside is not None and beside.path == f"{group.path}/container"
        made.add(os.getpid())
        beside.remove()

    as_nobody(group, use_it)


def test_what_is_not_handed_over_stays_out_of_reach(group: Group, host: Host) -> None:
    delegation.hand_over(group, NOBODY)
    directory = group.paths()["unified"]
    other = Group.create(host, f"{group.path}-other")
    victim = started(other)

    def attack() -> None:
        for name in ("cgroup.freeze", "cgroup.kill", "cgroup.max.descendants", "memory.max", "pids.max", "cpu.max"):
            if controlfile.exists(directory, name):
                with pytest.raises(PermissionError):
                    controlfile.write(directory, name, "1")
        for target, pid in ((f"{directory}/..", os.getpid()), (other.paths()["unified"], os.getpid()),
                            (directory, victim.pid)):
            with pytest.raises(PermissionError):
                controlfile.write(target, "cgroup.procs", str(pid))
        with pytest.raises(PermissionError):
            os.mkdir(f"{directory}/../mine")
        with pytest.raises(PermissionError):
            os.rmdir(other.paths()["unified"])

    try:
        as_nobody(group, attack)
        assert other.procs() == [victim.pid]
    finally:
        other.remove()
        assert victim.wait() == -signal.SIGKILL


def test_below_processes_a_group_without_limits_can_be_and_one_with_limits_says_why(host: Host) -> None:
    """In a container of another engine, whose processes are in the root of its cgroup namespace."""
    present = controlfile.read(host.v2, "cgroup.controllers").split()
    name = next((name for name in ("hugetlb", "pids") if name in present), "")
    if not name:
        pytest.skip("no controller on v2 here")
    wanted = {"hugetlb": Resources(hugepage_limits=[HugepageLimit(page_size="2MB", limit=0)]),
              "pids": Resources(pids=Pids(limit=7))}[name]
    host = Host("v2", {}, host.v2, [name], True)
    above = Group.create(host, f"sampan-test-{os.getpid()}/above")
    child = started(above)
    try:
        group = Group.create(host, f"{above.path}/below")
        inside = started(group)
        group.require(Resources())
        for use in (group.require, group.apply):
            with pytest.raises(Conflict, match=f"has processes of its own, so the kernel cannot enable the {name} con"):
                use(wanted)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        group.require(wanted)
        assert group.apply(wanted) == []
        os.kill(inside.pid, signal.SIGKILL)
        inside.wait()
    finally:
        Group.at(host, f"{above.path}/below").remove()
        above.remove()
        prune(host, os.path.dirname(above.path))


def test_without_a_delegation_there_is_no_group_or_a_clear_no(host: Host) -> None:
    limits = Resources(memory=Memory(limit=1 << 20), devices=[DeviceCgroup(allow=False)])

    def ask() -> None:
        assert not delegation.may_create(host, "sampan-test-none")
        assert cgroups.create(host, "", "container", None) is None
        assert cgroups.create(host, "", "container", Resources(devices=limits.devices)) is None
        with pytest.raises(Forbidden, match="rootless needs no limits"):
            cgroups.create(host, "", "container", limits)
        with pytest.raises(Forbidden, match=r"make cgroup /sampan-test-none below .*: permission denied"):
            cgroups.create(host, "/sampan-test-none", "container", None)

    as_nobody(None, ask)
    assert not os.path.exists(f"{host.v2}/sampan-test-none")


def test_v1_is_not_delegated() -> None:
    host = cgroup_fixture.host()
    if not host.v1:
        pytest.skip("needs a v1 hierarchy")
    assert delegation.may_create(host, "sampan-test-none")

    def ask() -> None:
        assert not delegation.may_create(host, "sampan-test-none")

    as_nobody(None, ask)


def test_root_makes_what_it_wants(host: Host) -> None:
    assert not delegation.is_rootless()
    assert delegation.may_create(host, "sampan-test-a/b")
    group = cgroups.create(host, f"/sampan-test-{os.getpid()}", "x", Resources(pids=Pids(limit=0)))
    assert group is not None
    group.remove()
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        cgroups.create(host, "/../x", "x", None)


def test_limits_are_told_from_none() -> None:
    assert not cgroups.has_limits(Resources(devices=[DeviceCgroup(allow=False)], pids=Pids(limit=0)))
    nothing = Resources(
        memory=Memory(limit=0, swap=-1, disable_oom_killer=False), cpu=CPU(shares=0, quota=-1, cpus=""),
        block_io=BlockIO(weight=0), pids=Pids(limit=-1), network=Network(),
    )
    assert not cgroups.has_limits(nothing)  # as dockerd writes it
    for limits in (
        Resources(pids=Pids(limit=5)), Resources(cpu=CPU(cpus="0")), Resources(memory=Memory(limit=1)),
        Resources(hugepage_limits=[HugepageLimit(page_size="2MB", limit=0)]),
    ):
        assert cgroups.has_limits(limits)
    assert cgroups.has_limits(Resources(unified={"memory.high": "1"}))
    assert cgroups.has_limits(Resources(network=Network(class_id=1)))


@pytest.mark.parametrize(("options", "kinds", "owned"), [
    (["nosuid"], ("user", "cgroup"), True), (["ro"], ("user", "cgroup"), False), ([], ("user",), False),
])
def test_a_group_is_the_containers_where_it_can_write_to_it(
    options: list[str], kinds: tuple[str, ...], owned: bool
) -> None:
    mounts = [oci.Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=options)]
    linux = oci.Linux(namespaces=[oci.Namespace(type=kind) for kind in kinds])
    assert cgroups.may_delegate(oci.Spec(oci_version="1.2.0", mounts=mounts, linux=linux)) is owned
