"""A full disk, a broken state file, files that vanished: said in one sentence, and nothing half-made stays."""

from __future__ import annotations

import ctypes
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine_fixture import Engine, engine

_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small() -> Iterator[Path]:
    """A data root with room for little more than the image."""
    directory = Path(tempfile.mkdtemp(prefix="small-"))
    assert _libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, b"size=16m") == 0, os.strerror(ctypes.get_errno())
    yield directory
    assert _libc.umount2(os.fsencode(directory), 0) == 0, os.strerror(ctypes.get_errno())
    directory.rmdir()


def fill(directory: Path) -> Path:
    """A file that takes all the room."""
    path = directory / "ballast"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def test_full_disk(small: Path) -> None:
    with engine(data_root=small) as boat:
        running = boat.run("sleep", "1000", HostConfig={"AutoRemove": True})
        ended = boat.run("sh", "-c", "exit 3")
        boat.wait(ended)
        fill(small)
        before = sorted(path.name for path in (small / "containers").iterdir())
        status, answer = boat.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
        assert status == 500 and "no space left on device" in answer["message"].lower(), answer
        assert sorted(path.name for path in (small / "containers").iterdir()) == before
        status, answer = boat.request("POST", f"/containers/{ended}/start")
        assert status == 500 and "no space left on device" in answer["message"].lower(), answer
        assert boat.state(ended)["Status"] == "exited"
        assert not [path for path in (boat.exec_root / "containers").iterdir() if path.name != running]
        # what runs can be seen, stopped and removed all the same, and that makes room again
        assert boat.state(running)["Running"] and boat.docker("exec", running, "echo", "aye").stdout == "aye\n"
        boat.ask("POST", f"/containers/{running}/stop?t=0")
        boat.ask("DELETE", f"/containers/{ended}")
        assert boat.ask("GET", "/containers/json?all=1") == []
        (small / "ballast").unlink()
        assert boat.wait(boat.run("true")) == 0
        boat.kill()
        boat.start()
        assert len(boat.ask("GET", "/containers/json?all=1")) == 1
    assert not list((small / "containers").iterdir())
    for path in small.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_broken_records_and_directories() -> None:
    with engine() as boat:
        good, torn, bare = (boat.run("true", name=name) for name in ("good", "torn", "bare"))
        for id in (good, torn, bare):
            boat.wait(id)
        boat.stop()
        with closing(sqlite3.connect(boat.data_root / "state.db")) as db, db:
            body = db.execute("SELECT body FROM record WHERE kind = 'container' AND id = ?", (torn,)).fetchone()[0]
            db.execute("UPDATE record SET body = ? WHERE id = ?", (body[:50], torn))
        os.rename(boat.data_root / "containers" / bare, boat.data_root / "containers" / ("f" * 64))
        (boat.exec_root / "containers" / ("e" * 64)).mkdir()
        boat.start()
        assert [it["Id"] for it in boat.ask("GET", "/containers/json?all=1")] == [good]
        assert f"container {torn} cannot be read" in boat.log and "container bare has lost its directory" in boat.log
        # what cannot be read is nobody's to delete; what belongs to nobody is
        assert sorted(path.name for path in (boat.data_root / "containers").iterdir()) == sorted([good, torn])
        assert not list((boat.exec_root / "containers").iterdir())
        boat.stop()
        with closing(sqlite3.connect(boat.data_root / "state.db")) as db, db:
            db.execute("UPDATE record SET body = ? WHERE id = ?", (body, torn))
        boat.start()
        assert {it["Id"] for it in boat.ask("GET", "/containers/json?all=1")} == {good, torn}


def test_garbage_instead_of_the_state() -> None:
    with engine(image=False) as boat:
        boat.stop()
        path = boat.data_root / "state.db"
        content = path.read_bytes()
        path.write_bytes(b"rubbish " * 1000)
        with pytest.raises(AssertionError, match="is broken"):
            boat.start()
        path.write_bytes(content)
        boat.start()


def test_end_with_followers_and_unstarted_clients() -> None:
    with engine() as boat:
        id = boat.run("sh", "-c", "echo here; exec sleep 1000")
        connection = boat.connect()
        try:
            connection.request("GET", f"/v1.47/containers/{id}/logs?stdout=1&follow=1")
            with connection.getresponse() as answer:
                assert answer.read(8)
                boat.stop()
                boat.start()
                assert boat.state(id)["Running"]
        finally:
            connection.close()


def test_address_range_in_use_is_said(tmp_path: Path) -> None:
    with engine(image=False) as boat:
        other = Engine(tmp_path, f"{boat.bridge}x", boat.bip, f"{boat.cgroup_parent}-x")
        with pytest.raises(AssertionError, match="choose another with --bip"):
            other.start()
        assert not (tmp_path / "s").exists()
