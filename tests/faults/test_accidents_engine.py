"""Accidents of the engine: what an earlier one, or another, has left must not stop it; it must not stop others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine_fixture import Engine, engine


@pytest.fixture
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


def test_pidfile_of_a_killed_engine_names_somebody_else_by_now(boat: Engine) -> None:
    boat.kill()
    pidfile = boat.directory / "pid"
    pidfile.write_text(f"{os.getpid()}\n")
    boat.start()
    assert pidfile.read_text() == f"{boat.pid}\n"


def test_two_engines_do_not_share_a_pidfile(boat: Engine) -> None:
    other = Engine(boat.directory, boat.bridge, boat.bip, boat.cgroup_parent, ["--data-root", "/nowhere"])
    with pytest.raises(AssertionError, match=f"names process {boat.pid}, which runs"):
        other.start()
    assert (boat.directory / "pid").read_text() == f"{boat.pid}\n"
