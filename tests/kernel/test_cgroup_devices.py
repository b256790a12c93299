"""Which device nodes a group's processes may open: v1's lists, v2's program."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

import pytest
from tests.cgroup_fixture import spawn

from sampan.errors import InvalidArgument
from sampan.linux.cgroup import Group, controlfile, device_program, devices
from sampan.oci.runtime import DeviceCgroup, Resources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")


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


def test_devices_are_denied_unless_allowed(make_group: Callable[..., Group]) -> None:
    group = make_group()
    group.apply(Resources(devices=ONLY_NULL))
    assert spawn(group, try_devices).wait() == 0b0011
    if group.host.mode == "v2":
        group.apply(Resources(devices=[DeviceCgroup(allow=True)]))
        assert spawn(group, try_devices).wait() == 0b1111


def test_the_device_program_decides_and_is_replaced(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if "unified" not in group.paths():
        pytest.skip("needs a v2 hierarchy")
    directory = group.paths()["unified"]
    device_program.attach(directory, ONLY_NULL)
    assert spawn(group, try_devices).wait() == 0b0011
    device_program.attach(directory, [DeviceCgroup(allow=False, type="c", major=1, minor=5, access="w")])
    assert spawn(group, try_devices).wait() == 0b1011
    device_program.attach(directory, [DeviceCgroup(allow=True)])
    assert spawn(group, try_devices).wait() == 0b1111


def test_a_new_list_takes_nothing_away_that_stays(make_group: Callable[..., Group]) -> None:
    """The moment between "deny all" and "allow this" is one in which a program fails to open /dev/null."""
    group = make_group()
    group.apply(Resources(devices=ONLY_NULL))
    reader, writer = os.pipe()

    def opens_all_the_time() -> int:
        while not select.select([reader], [], [], 0)[0]:
            os.close(os.open("/dev/null", os.O_RDWR))
        return 0

    child = spawn(group, opens_all_the_time)
    more = [DeviceCgroup(allow=True, type="c", major=1, minor=7), DeviceCgroup(allow=True, type="b", major=8)]
    for index in range(100):
        group.apply(Resources(devices=[*ONLY_NULL, *more[index % 2 :]]))
    os.write(writer, b"x")
    os.close(writer)
    os.close(reader)
    assert child.wait() == 0
    assert spawn(group, try_devices).wait() == 0b0011


def test_lists_become_what_the_rules_say(make_group: Callable[..., Group]) -> None:
    group = make_group()
    if "devices" not in group.paths():
        pytest.skip("v1's lists")

    def listed() -> list[str]:
        return sorted(controlfile.read(group.paths()["devices"], "devices.list").splitlines())

    group.apply(Resources(devices=ONLY_NULL))
    assert listed() == ["c *:* m", "c 1:3 rw", "c 1:5 r"]
    group.apply(Resources(devices=[DeviceCgroup(allow=False), DeviceCgroup(allow=True, type="c", major=1, minor=3)]))
    assert listed() == ["c 1:3 rwm"]
    group.apply(Resources(devices=[DeviceCgroup(allow=True, type="b", major=8)]))  # without "a" it adds
    assert listed() == ["b 8:* rwm", "c 1:3 rwm"]
    group.apply(Resources(devices=devices.complete(DeviceCgroup, [])))
    assert len(listed()) == len(devices.ALWAYS_ALLOWED)
    assert spawn(group, try_devices).wait() == 0b1111


def test_the_default_devices_alone(make_group: Callable[..., Group]) -> None:
    group = make_group()
    asked = [DeviceCgroup(allow=True, type="c", major=10, minor=1)]
    group.apply(Resources(devices=devices.complete(DeviceCgroup, asked)))

    def try_kmsg() -> int:
        try:
            os.close(os.open("/dev/kmsg", os.O_RDONLY))
        except PermissionError:
            return 0
        return 1

    assert spawn(group, try_devices).wait() == 0b1111
    assert spawn(group, try_kmsg).wait() == 0


def test_rules_hold_in_the_order_they_are_given(make_group: Callable[..., Group]) -> None:
    """v1's kernel ignores a denial that covers less, or more, than what was allowed; what it ignores stays allowed."""
    group = make_group()
    with pytest.raises(InvalidArgument, match="c 1:5 is a part of c 1:"):
        group.apply(Resources(devices=[
            DeviceCgroup(allow=False), DeviceCgroup(allow=True, type="c", major=1),
            DeviceCgroup(allow=False, type="c", major=1, minor=5),
        ]))
    group.apply(Resources(devices=[*ONLY_NULL, DeviceCgroup(allow=False, type="c", major=1, access="rw")]))
    assert spawn(group, try_devices).wait() == 0


def test_programs_of_others_stay(make_group: Callable[..., Group]) -> None:
    """systemd attaches one of its own to a unit's group: an update must replace ours, and ours alone."""
    group = make_group()
    if "unified" not in group.paths():
        pytest.skip("needs a v2 hierarchy")
    directory = group.paths()["unified"]
    device_program.attach(directory, ONLY_NULL, name=b"somebody")
    device_program.attach(directory, [DeviceCgroup(allow=True)])
    assert spawn(group, try_devices).wait() == 0b0011
    device_program.attach(directory, [DeviceCgroup(allow=False, type="c", major=1, minor=3)])
    device_program.attach(directory, [DeviceCgroup(allow=True)])
    assert spawn(group, try_devices).wait() == 0b0011
