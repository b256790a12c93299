"""The computing parts of the cgroup room: weights, device policy and program, paths, control files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, Unsupported
from sampan.linux import mountinfo
from sampan.linux.cgroup import (
    Host,
    cgroupfs,
    controlfile,
    device_program,
    devices,
    hierarchies,
    limits_v1,
    limits_v2,
    requirements,
)
from sampan.oci import runtime as oci
from sampan.oci.runtime import DeviceCgroup

MOUNTS = {"memory": "/c/memory", "freezer": "/c/freezer", "cpuacct": "/c/cpu", "cpu": "/c/cpu"}
HYBRID = Host("hybrid", MOUNTS, "/c/u", [], True)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (0, 1), (1 << 20, 10000)])
def test_shares_become_weights(shares: int, weight: int) -> None:
    assert limits_v2.weight_of_shares(shares) == weight


@given(st.integers(2, 262143))
def test_more_shares_never_weigh_less(shares: int) -> None:
    assert 1 <= limits_v2.weight_of_shares(shares) <= limits_v2.weight_of_shares(shares + 1) <= 10000


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (500, 4950), (1000, 10000)])
def test_blkio_weights(weight: int, converted: int) -> None:
    assert limits_v2.weight_of_blkio(weight) == converted


def test_a_hybrid_group_leaves_to_v2_what_it_does_alone() -> None:
    assert cgroupfs.directories(HYBRID, "/a/b/") == {
        "memory": "/c/memory/a/b", "cpuacct": "/c/cpu/a/b", "cpu": "/c/cpu/a/b", "unified": "/c/u/a/b",
    }
    assert set(hierarchies(HYBRID)) == {"memory", "cpu", "cpuacct"}
    v1 = Host("v1", HYBRID.v1)
    assert set(cgroupfs.directories(v1, "a")) == {"memory", "freezer", "cpuacct", "cpu"}
    assert set(cgroupfs.directories(v1, "a", ["memory"])) == {"memory"}


def test_mount_points_are_unescaped() -> None:
    line = r"26 20 0:22 / /a\040b\134c rw - cgroup cgroup rw,cpu"
    assert mountinfo.parse(line).target == r"/a b\c"


def test_control_files_are_parsed() -> None:
    assert controlfile.parse_flat("a 1\nb 22\nsome avg10=0.00\n\nc x\n") == {"a": 1, "b": 22}


@pytest.mark.parametrize("size", ["", "2MB/../x", "MB", "2mb", "-2MB", "2TB", "٢MB"])
def test_page_sizes_are_no_paths(size: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid huge page size"):
        limits_v1.check_page_size(size)
    limits_v1.check_page_size("2MB")


def rule(
    allow: bool, kind: str = "a", major: int | None = None, minor: int | None = None, access: str = "rwm"
) -> DeviceCgroup:
    return DeviceCgroup(allow=allow, type=kind, major=major, minor=minor, access=access)


def test_device_lines() -> None:
    assert devices.line(rule(False)) == "a"
    assert devices.line(rule(True, "c", 136)) == "c 136:* rwm"
    assert devices.line(rule(True, "b", -1, 3, "m")) == "b *:3 m"
    for bad in (rule(True, "x"), rule(True, "c", access=""), rule(True, "c", access="rx")):
        with pytest.raises(InvalidArgument, match="invalid device cgroup rule"):
            devices.line(bad)
        with pytest.raises(InvalidArgument, match="invalid device cgroup rule"):
            device_program.policy([bad])
    for none in (rule(False, "c", 1 << 31), rule(False, "c", -2), rule(False, "b", 8, -(1 << 63))):
        for read in (lambda: devices.line(none), lambda: device_program.policy([none])):  # noqa: B023
            with pytest.raises(InvalidArgument, match="invalid device number"):
                read()


def test_the_device_policy_follows_v1() -> None:
    found = device_program.policy([
        rule(True, "c", 9, 9), rule(False), rule(True, "c", 1, 3, "rw"), rule(True, "c", 1, 3, "m"),
        rule(True, "c", 1, 5), rule(False, "c", 1, 5, "w"), rule(True, "b"), rule(False, "b"),
    ])
    assert not found.allow
    assert found.exemptions == (device_program.Exemption("c", 1, 3, 7), device_program.Exemption("c", 1, 5, 3))


def test_a_rule_takes_back_all_that_it_covers_and_no_part_of_a_wildcard() -> None:
    given = [rule(False), rule(True, "c", 1, 3), rule(True, "c", 1, 5, "rm"), rule(True, "c", 2, 3), rule(True, "b", 1)]
    left = {"c 1": {("c", 1, 5, 1), ("c", 2, 3, 7), ("b", 1, None, 7)}, "c": {("c", 1, 5, 1), ("b", 1, None, 7)}}
    first = device_program.policy([*given, rule(False, "c", 1, 3, "m"), rule(False, "c", 1, access="rw")])
    assert {(it.type, it.major, it.minor, it.access) for it in first.exemptions} == {*left["c 1"]}
    second = device_program.policy([*given, rule(False, "c", minor=3), rule(False, "c", access="rw")])
    assert {(it.type, it.major, it.minor, it.access) for it in second.exemptions} == left["c"]
    for part in (rule(False, "b", 1, 3, "w"), rule(False, "b", minor=3)):
        with pytest.raises(InvalidArgument, match="cannot punch a hole into a wildcard rule"):
            device_program.policy([*given, part])
    assert device_program.policy([rule(True, "c", 1, access="rw"), rule(False), rule(True, "c", 1, access="m"),
                                  rule(False, "c", 1, 3, "rw")]).exemptions[0].access == 1


def test_letters_that_no_kernel_knows_say_nothing_beside_others() -> None:
    found = devices.complete(DeviceCgroup, [rule(True, "c", 1, 11, "rwa"), rule(False, "c", 1, 12, "x")])
    assert (found[1].access, found[2].access) == ("rw", "x")
    with pytest.raises(InvalidArgument, match="invalid device cgroup rule"):
        device_program.policy(found)


def allowed(found: device_program.Policy, kind: str, major: int, minor: int, access: int) -> bool:
    """The policy read as v1's documentation reads."""
    for exemption in found.exemptions:
        same = exemption.type == kind and exemption.major in (None, major) and exemption.minor in (None, minor)
        if same and found.allow and exemption.access & access:
            return False
        if same and not found.allow and access & ~exemption.access == 0:
            return True
    return found.allow


def run(program: bytes, kind: str, major: int, minor: int, access: int) -> bool:
    """An interpreter of just the instructions that are used."""
    context = struct.pack("=III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers, at = [0] * 11, 0
    while True:
        opcode, both, offset, number = struct.unpack_from("=BBhi", program, at * 8)
        to, source = both & 15, both >> 4
        at += 1
        if opcode == 0x61:
            registers[to] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xBC:
            registers[to] = registers[source]
        elif opcode == 0xB4:
            registers[to] = number
        elif opcode == 0x54:
            registers[to] &= number
        elif opcode == 0x74:
            registers[to] >>= number
        elif opcode == 0x95:
            return bool(registers[0])
        else:
            other = registers[source] if opcode == 0x5D else number
            if (registers[to] == other) == (opcode == 0x15):
                at += offset


NUMBERS = st.none() | st.integers(0, 3)
RULES = st.lists(st.builds(
    rule, st.booleans(), st.sampled_from("abc"), NUMBERS, NUMBERS, st.sampled_from(["r", "w", "m", "rw", "rm", "rwm"])
), max_size=8)


@given(RULES, st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3), st.integers(1, 7))
def test_the_device_program_says_what_the_policy_says(
    rules: list[DeviceCgroup], kind: str, major: int, minor: int, access: int
) -> None:
    try:
        found = device_program.policy(rules)
    except InvalidArgument:
        return  # a hole in a wildcard
    assert run(device_program.program(found), kind, major, minor, access) == allowed(found, kind, major, minor, access)


@pytest.mark.parametrize("weight", [1, 2, 39, 100, 101, 1000, 9999, 10000])
def test_shares_shown_for_a_weight_would_give_that_weight(weight: int) -> None:
    assert abs(limits_v2.weight_of_shares(limits_v2.shares_of_weight(weight)) - weight) <= max(1, weight // 100)


@pytest.mark.parametrize("wanted", [
    oci.Resources(memory=oci.Memory(limit=1 << 63)), oci.Resources(memory=oci.Memory(swap=-(1 << 63) - 1)),
    oci.Resources(memory=oci.Memory(limit=-2)), oci.Resources(memory=oci.Memory(limit=1, swap=-5)),
    oci.Resources(memory=oci.Memory(reservation=1 << 70)),
    oci.Resources(hugepage_limits=[
        oci.HugepageLimit(page_size="2MB", limit=1 << 64), oci.HugepageLimit(page_size="1GB", limit=0),
    ]),
])
def test_a_size_that_the_kernel_would_cut_short_is_refused(wanted: oci.Resources) -> None:
    with pytest.raises(InvalidArgument, match="is out of range"):
        requirements.check_sizes(wanted)
    requirements.check_sizes(oci.Resources(memory=oci.Memory(limit=(1 << 63) - 1, swap=-1)))


def group_with(directory: Path, **files: str) -> str:
    """A group as far as a kernel without some control files has it."""
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return str(directory)


def test_a_kernel_without_burst_keeps_the_quota(tmp_path: Path) -> None:
    v2 = group_with(tmp_path, cpu_max="max 100000")
    assert limits_v2.apply_cpu(v2, oci.CPU(quota=5000, burst=0, idle=0)) == []
    assert (tmp_path / "cpu.max").read_text() == "5000 100000"
    assert limits_v2.apply_cpu(v2, oci.CPU(quota=7000, burst=9)) == [limits_v1.NO_BURST]
    assert (tmp_path / "cpu.max").read_text() == "7000 100000"
    (tmp_path / "cpu.cfs_quota_us").write_text("-1")
    assert limits_v1.apply_cpu(v2, oci.CPU(quota=5000, burst=0, idle=0)) == []
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "5000"
    assert limits_v1.apply_cpu(v2, oci.CPU(quota=7000, burst=9)) == [limits_v1.NO_BURST]
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "7000"


def test_no_swap_is_what_a_kernel_that_counts_none_has(tmp_path: Path) -> None:
    v2 = group_with(tmp_path, memory_max="max", memory_current="0")
    memory = oci.Memory(limit=5 << 20, swap=5 << 20)
    requirements.check({"unified": v2}, True, oci.Resources(memory=memory))
    assert limits_v2.apply_memory(v2, memory) == []
    assert (tmp_path / "memory.max").read_text() == str(5 << 20)
    memory.swap = 6 << 20
    assert limits_v2.apply_memory(v2, memory) == [limits_v1.NO_SWAP_LIMIT]
    with pytest.raises(Unsupported, match=r"memory\.swap cannot be set: .*memory\.swap\.max does not exist"):
        requirements.check({"unified": v2}, True, oci.Resources(memory=memory))
