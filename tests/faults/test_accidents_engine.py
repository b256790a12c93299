"""Accidents of the engine: what an earlier one, or another, has left must not stop it; it must not stop others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import Engine, engine
from sampan.engine import cgroup_parent
from sampan.errors import InvalidArgument
from sampan.linux.cgroup import detect


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


@pytest.fixture
def other(boat: Engine, tmp_path: Path) -> Iterator[Engine]:
    """A second engine that has all but its cgroup parent for itself; not started."""
    made = Engine(tmp_path, f"{boat.bridge}x", "10.198.77.1/24", boat.cgroup_parent)
    try:
        yield made
    finally:
        made.kill()


def test_an_engine_does_not_end_containers_of_another_below_the_same_cgroup(boat: Engine, other: Engine) -> None:
    id = boat.run("sleep", "1000")
    with pytest.raises(AssertionError, match=f"below the cgroup {boat.cgroup_parent}"):
        other.start()
    assert boat.state(id)["Running"]
    boat.kill()  # the kernel lets go of what it held
    boat.start()
    assert boat.state(id)["Running"]


def test_an_engine_does_not_sweep_the_runs_of_another(boat: Engine, other: Engine) -> None:
    id = boat.run("sleep", "1000")
    other.cgroup_parent += "-other"
    other.arguments = ["--exec-root", str(boat.exec_root)]
    with pytest.raises(AssertionError, match=f"another engine uses {boat.exec_root} as its exec root"):
        other.start()
    boat.kill()
    boat.start()
    assert boat.state(id)["Running"]


def test_a_starting_engine_leaves_groups_that_are_no_containers(boat: Engine) -> None:
    boat.stop()
    group = Path("/sys/fs/cgroup/pids") / boat.cgroup_parent / "machine"
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            (group / "cgroup.procs").write_text(str(bystander.pid))
            boat.start()
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()
            group.rmdir()


@pytest.mark.parametrize("parent", ["/", "", "..", "a/../b"])
def test_the_top_of_the_hierarchies_is_no_cgroup_parent(parent: str) -> None:
    """It would take every group of the host for the remains of a container; so no engine is started here."""
    with pytest.raises(InvalidArgument, match="invalid cgroup path"):
        cgroup_parent.hold(detect(), parent)
