"""What systemd is told: names of units, properties of resources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.linux.cgroup import systemd, unit_properties
from sampan.linux.cgroup.unit_properties import INFINITY
from sampan.oci.runtime import CPU, BlockIO, DeviceCgroup, Memory, Pids, Resources


@pytest.mark.parametrize(("path", "user", "names"), [
    ("system.slice:docker:ID", False, ("system.slice", "docker-ID.scope")),
    (":docker:ID", False, ("system.slice", "docker-ID.scope")),
    (":libpod:ID", True, ("user.slice", "libpod-ID.scope")),
    ("a-b.slice::c", False, ("a-b.slice", "c.scope")),
    ("machine.slice:x:own.slice", False, ("machine.slice", "own.slice")),
])
def test_names_of_units(path: str, user: bool, names: tuple[str, str]) -> None:
    assert systemd.unit_names(path, user) == names


@pytest.mark.parametrize("path", [
    "", "/a/b", "a:b", "a:b:c:d", "system:docker:ID", "a--b.slice:x:y", "../a.slice:x:y", "a.slice:x:", "a.slice:x:b/c",
    "a.slice:x:" + "y" * 256, ".slice:x:y", "..slice:x:y", "a.slice:x:y\n", "a.slice:x:-.slice/",
])
def test_bad_names(path: str) -> None:
    with pytest.raises(InvalidArgument):
        systemd.unit_names(path)


@pytest.mark.parametrize(("name", "path"), [
    ("system.slice", "system.slice"), ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"), ("-.slice", ""),
])
def test_slices_lie_in_slices(name: str, path: str) -> None:
    assert systemd.expand_slice(name) == path


def properties(resources: Resources, v2: bool = True, version: int = 252) -> dict[str, object]:
    return {name: value for name, (_, value) in unit_properties.of_resources(resources, v2, version)}


def test_memory_and_pids() -> None:
    resources = Resources(memory=Memory(limit=100, swap=150, reservation=50), pids=Pids(limit=-1))
    assert properties(resources) == {"MemoryMax": 100, "MemoryLow": 50, "MemorySwapMax": 50, "TasksMax": INFINITY}
    assert properties(resources, v2=False) == {"MemoryLimit": 100, "TasksMax": INFINITY}
    assert properties(Resources(memory=Memory(limit=-1))) == {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}


def test_cpu() -> None:
    resources = Resources(cpu=CPU(shares=1024, quota=12_345, period=100_000, cpus="0,9", mems="0"))
    assert properties(resources) == {
        "CPUWeight": 100, "CPUQuotaPeriodUSec": 100_000, "CPUQuotaPerSecUSec": 130_000, "AllowedCPUs": b"\x01\x02",
        "AllowedMemoryNodes": b"\x01",
    }
    assert properties(resources, v2=False, version=239) == {"CPUShares": 1024, "CPUQuotaPerSecUSec": 130_000}
    assert properties(Resources(cpu=CPU(quota=-1))) == {"CPUQuotaPerSecUSec": INFINITY}
    assert properties(Resources(cpu=CPU(idle=1, shares=5))) == {"CPUWeight": 0}
    assert properties(Resources(block_io=BlockIO(weight=500)), v2=False) == {"BlockIOWeight": 500}


def test_unified_settings_that_systemd_knows() -> None:
    resources = Resources(unified={
        "memory.high": "7", "cpu.max": "max 100000", "cpuset.cpus": "0-7", "pids.max": "max", "io.max": "8:0 rbps=1",
        "io.weight": "default 50",
    })
    assert properties(resources) == {
        "MemoryHigh": 7, "CPUQuotaPeriodUSec": 100_000, "CPUQuotaPerSecUSec": INFINITY, "AllowedCPUs": b"\xff",
        "TasksMax": INFINITY, "IOWeight": 50,
    }


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "0-99999999999", "8192", "-1", "0,,1", "٣"])
def test_cpu_lists_are_bounded_cve_2018_20699(text: str) -> None:
    with pytest.raises(InvalidArgument):
        unit_properties.bit_mask(text)


@given(st.sets(st.integers(0, 8191), min_size=1, max_size=20))
def test_cpu_lists(numbers: set[int]) -> None:
    mask = int.from_bytes(unit_properties.bit_mask(",".join(map(str, numbers))), "little")
    assert {bit for bit in range(8192) if mask >> bit & 1} == numbers


def rule(allow: bool, kind: str = "a", major: int | None = None, minor: int | None = None) -> DeviceCgroup:
    return DeviceCgroup(allow=allow, type=kind, major=major, minor=minor)


def test_devices() -> None:
    strict, auto = ("DevicePolicy", ("s", "strict")), ("DevicePolicy", ("s", "auto"))
    none = ("DeviceAllow", ("a(ss)", []))
    known = [rule(False), rule(True, "c", 1, 3), rule(True, "b", 8), rule(True, "c")]
    allowed = [("/dev/char/1:3", "rwm"), ("block-8", "rwm"), ("char-*", "rwm")]
    for v2 in (True, False):
        assert unit_properties.of_devices(known, v2) == [strict, none, ("DeviceAllow", ("a(ss)", allowed))]
        assert unit_properties.of_devices([rule(True)], v2) == [auto, none]
        assert unit_properties.of_devices([rule(False)], v2) == [strict, none]
    without_words = [rule(False), rule(True, "c", None, 3)]
    assert unit_properties.of_devices(without_words, True) == [auto, none]
    assert unit_properties.of_devices(without_words, False) == [strict, none]
    assert unit_properties.of_devices([rule(False, "c", 1, 3)], False) == [strict, none]


def test_annotations() -> None:
    prefix = unit_properties.ANNOTATION
    assert unit_properties.of_annotations({
        "x": "y", f"{prefix}A": "true", f"{prefix}B": "uint64 5", f"{prefix}C": "'x y'", f"{prefix}D": "['a', \"b\"]",
        f"{prefix}TimeoutStopSec": "1.5", f"{prefix}E": "-3",
    }) == [
        ("A", ("b", True)), ("B", ("t", 5)), ("C", ("s", "x y")), ("D", ("as", ["a", "b"])),
        ("TimeoutStopUSec", ("t", 1_500_000)), ("E", ("i", -3)),
    ]
    for key, value in (("A", ""), ("A", "'"), ("A", "uint64 x"), ("a b", "1"), ("XSec", "'s'"), ("A", "[1]")):
        with pytest.raises(InvalidArgument, match="annotation"):
            unit_properties.of_annotations({prefix + key: value})
