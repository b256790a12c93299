"""A state directory that is not as it was left: what the runtime says, and that `delete --force` gets rid of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, one_clear_line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DAMAGED = [b"", b"{", b"null", b"[]", b'{"id": 5}', b"\xff\xfe", b"[" * 100_000, b'{"id": "boat"}', None]
"""What state.json or config.json holds; None: it is gone."""


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path, "sleep", "1000") as made:
        yield made


def spoil(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record(boat: Dock, content: bytes | None) -> None:
    boat.config["linux"].pop("cgroupsPath")  # each gets its own
    boat.create(name="other")
    boat.create()
    os.kill(boat.pid(), 9)
    spoil(boat.states / boat.name / "state.json", content)
    for call in (("state",), ("start",), ("kill",), ("pause",), ("delete",)):
        done = boat.call(*call, boat.name)
        if done.returncode != 0:
            one_clear_line(done.stderr)
    listed = boat.call("list", "--format", "json")
    assert listed.returncode == 0
    assert "other" in [entry["id"] for entry in json.loads(listed.stdout)]
    boat.ok("delete", "--force", boat.name)
    boat.ok("delete", "--force", "other")
    assert [name for name in os.listdir(boat.states) if not name.startswith(".")] == []
    for group in Path("/sys/fs/cgroup").glob(f"*/{boat.name}"):  # only the record knew of it
        group.rmdir()


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_config(boat: Dock, content: bytes | None) -> None:
    boat.create()
    spoil(boat.states / boat.name / "config.json", content)
    assert boat.state()["status"] == "created"
    for call in (("exec", boat.name, "true"), ("start", boat.name)):
        done = boat.call(*call)
        if done.returncode != 0:
            one_clear_line(done.stderr)
    boat.ok("delete", "--force", boat.name)
    assert boat.call("state", boat.name).returncode == 1


@pytest.mark.parametrize("name", ["stray", ".hidden", "not a container"])
def test_other_things_in_the_state_directory(boat: Dock, name: str, tmp_path: Path) -> None:
    boat.create()
    outside = tmp_path / "outside"  # not a directory of the host's: a runtime that follows the link takes it all away
    outside.mkdir()
    (outside / "precious").touch()
    (boat.states / name).mkdir()
    (boat.states / "file").write_text("")
    (boat.states / "link").symlink_to(outside)
    listed = boat.call("list", "--quiet")
    assert listed.returncode == 0 and boat.name in listed.stdout.split()
    done = boat.call("delete", "--force", "link")
    assert (outside / "precious").exists()
    if done.returncode != 0:
        one_clear_line(done.stderr)
