"""Whatever a config.json asks of a cgroup, it gets it or one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import cgroup_fixture

from sampan.errors import SampanError
from sampan.linux.cgroup import Group, cgroupfs, delegation, devices, systemd, unit_properties
from sampan.oci.runtime import (
    CPU,
    BlockIO,
    DeviceCgroup,
    HugepageLimit,
    Memory,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)

NUMBER = st.none() | st.integers(-2, 5000) | st.sampled_from([1 << 31, 1 << 63, 1 << 64, 10**30, -(1 << 63), -(10**30)])
WHOLE = NUMBER.map(lambda it: it or 0)
TEXT = st.text() | st.sampled_from(
    ["", "0", "0-1", "0-", "a", "\ud800", "0\n", "0\0", "../x", "9" * 50, "max", "0,99999999"]
)
NAME = TEXT | st.sampled_from(["memory.max", "cpu.max", "pids.max", "cgroup.procs", "io.max", "memory.nothing"])
RULE = st.builds(DeviceCgroup, allow=st.booleans(), type=st.sampled_from(["a", "b", "c", "", "x"]), major=NUMBER,
                 minor=NUMBER, access=st.sampled_from(["rwm", "r", "", "x"]))
THROTTLE = st.lists(st.builds(ThrottleDevice, major=WHOLE, minor=WHOLE, rate=WHOLE), max_size=2)
RESOURCES = st.builds(
    Resources,
    devices=st.lists(RULE, max_size=4).map(lambda rules: devices.complete(DeviceCgroup, rules)),
    memory=st.none() | st.builds(
        Memory, limit=NUMBER, swap=NUMBER, reservation=NUMBER, kernel=NUMBER, swappiness=NUMBER),
    cpu=st.none() | st.builds(
        CPU, shares=NUMBER, quota=NUMBER, period=NUMBER, burst=NUMBER, idle=NUMBER, realtime_period=NUMBER, cpus=TEXT,
        mems=TEXT),
    pids=st.none() | st.builds(Pids, limit=WHOLE),
    block_io=st.none() | st.builds(
        BlockIO, weight=NUMBER, leaf_weight=NUMBER, throttle_read_bps_device=THROTTLE,
        weight_device=st.lists(st.builds(WeightDevice, major=WHOLE, minor=WHOLE, weight=NUMBER), max_size=2)),
    hugepage_limits=st.lists(st.builds(HugepageLimit, page_size=TEXT | st.just("2MB"), limit=WHOLE), max_size=2),
    rdma=st.dictionaries(TEXT, st.builds(Rdma, hca_handles=NUMBER, hca_objects=NUMBER), max_size=1),
    unified=st.dictionaries(NAME, TEXT, max_size=2),
)


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with cgroup_fixture.groups() as create:
        yield create()


@pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RESOURCES)
def test_resources(group: Group, resources: Resources) -> None:
    for use in (group.require, group.apply):
        try:
            use(resources)
        except SampanError as error:
            assert str(error) and "\n" not in str(error)


@given(RESOURCES, st.booleans(), st.sampled_from([0, 239, 252]))
def test_properties(resources: Resources, v2: bool, version: int) -> None:
    try:
        found = unit_properties.of_resources(resources, v2, version)
    except SampanError:
        return
    assert all(name.isalpha() and isinstance(signature, str) for name, (signature, _) in found)


@given(TEXT, TEXT)
def test_paths_and_annotations(path: str, text: str) -> None:
    for use in (
        lambda: cgroupfs.check_path(path), lambda: systemd.unit_names(f"{path}:{text}:{path}"),
        lambda: delegation.resolve(cgroup_fixture.host(), path, text),
        lambda: unit_properties.of_annotations({f"{unit_properties.ANNOTATION}{path}": text}),
    ):
        try:
            use()
        except SampanError as error:
            assert str(error)
