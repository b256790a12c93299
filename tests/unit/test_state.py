"""The engine's state file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sampan.engine.state import State
from sampan.errors import Conflict, Internal


def test_records_survive(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    state.save("container", "a", b"1")
    state.save("container", "a", b"2")
    state.save("volume", "a", b"3")
    state.save("container", "b", b"4")
    state.delete("container", "b")
    state.close()
    state = State(tmp_path / "state.db")
    assert state.load("container") == [("a", b"2")] and state.load("volume") == [("a", b"3")]
    state.close()


def test_all_or_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(ZeroDivisionError), state.together():
        state.save("container", "a", b"1")
        raise ZeroDivisionError
    assert state.load("container") == []
    state.close()


def test_one_owner(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    with pytest.raises(Conflict, match="another engine uses"):
        State(tmp_path / "state.db")
    state.close()
    State(tmp_path / "state.db").close()


def test_broken_or_newer_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(Internal, match="is broken"):
        State(path)
    path.unlink()
    State(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(Internal, match="newer Sampan"):
        State(path)
