"""The five capability sets, changed in forked children."""

from __future__ import annotations

import os

import pytest
from tests.forked import in_child

from sampan.errors import InvalidArgument
from sampan.linux import capability

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to give away")

KILL_AND_CHOWN = capability.to_mask(["CAP_KILL", "CAP_CHOWN"])


def test_names_and_numbers() -> None:
    assert len(capability.NAMES) == 41
    assert capability.NUMBERS["CAP_CHOWN"] == 0
    assert capability.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capability.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    assert capability.to_names(KILL_AND_CHOWN | 1 << 50) == ["CAP_CHOWN", "CAP_KILL", "CAP_50"]
    assert 35 < capability.last_cap() < 64
    with pytest.raises(InvalidArgument, match="unknown capability: CAP_FLY"):
        capability.to_mask(["CAP_FLY"])


def test_a_process_is_read() -> None:
    ours = capability.read()
    assert ours == capability.read(os.getpid())
    assert ours.effective and ours.permitted
    with pytest.raises(FileNotFoundError):
        capability.read(1 << 22)


def test_all_sets_at_once() -> None:
    wanted = capability.Sets(KILL_AND_CHOWN, 1, 0, KILL_AND_CHOWN, 0)

    def change() -> object:
        capability.set_all(wanted, capability.last_cap())
        return vars(capability.read())

    assert in_child(change) == vars(wanted)


def test_the_way_to_another_user() -> None:
    last = capability.last_cap()

    def become() -> object:
        capability.drop_bounding(KILL_AND_CHOWN, last)
        capability.keep_over_setuid(True)
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        capability.keep_over_setuid(False)
        capability.set_sets(KILL_AND_CHOWN, KILL_AND_CHOWN, 1)
        capability.set_ambient(1)
        return vars(capability.read()) | {"uid": os.getuid()}

    sets = capability.Sets(KILL_AND_CHOWN, KILL_AND_CHOWN, 1, KILL_AND_CHOWN, 1)
    assert in_child(become) == vars(sets) | {"uid": 1000}


def test_nothing_comes_back() -> None:
    def regain() -> object:
        capability.set_sets(0, KILL_AND_CHOWN, 0)
        capability.set_sets(KILL_AND_CHOWN, KILL_AND_CHOWN, 0)
        capability.set_sets(0, KILL_AND_CHOWN | 1 << 21, 0)
        return "regained"

    assert in_child(regain) == "PermissionError"


def test_cve_2016_8867_ambient_is_cleared() -> None:
    def twice() -> object:
        ours = capability.read()
        capability.set_sets(ours.effective, ours.permitted, KILL_AND_CHOWN)
        capability.set_ambient(KILL_AND_CHOWN)
        before = capability.read().ambient
        capability.set_ambient(0)
        return [before, capability.read().ambient]

    assert in_child(twice) == [KILL_AND_CHOWN, 0]
