"""Which device nodes a group's processes may open: v1's lists, v2's program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from tests import cgroup_fixture
from tests.cgroup_fixture import spawn

from sampan.linux.cgroup import Group, device_program
from sampan.oci.runtime import DeviceCgroup, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


@pytest.fixture
def make() -> Iterator[Callable[..., Group]]:
    with cgroup_fixture.groups() as create:
        yield create


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
