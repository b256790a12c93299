"""What must survive the engine: one SQLite file, the engine its only writer. Lists are served from memory.

Write-ahead log with synchronous=NORMAL: a commit is a write to the page cache (20 µs), so a killed engine loses
nothing, and after a power failure the file is consistent though the last moments may be missing. The log is folded
back into the file (the only fsync) by a thread, never between a request and its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sampan.errors import Conflict, Internal, OutOfSpace

VERSION = 1
_FOLD_EVERY = 400  # writes
_FOLD_DELAY = 2.0  # seconds: bursts are folded once
_TABLES = "CREATE TABLE IF NOT EXISTS record (kind TEXT, id TEXT, body BLOB, PRIMARY KEY (kind, id)) WITHOUT ROWID"


class State:
    """Records by kind ("container", "volume", …) and id; a record's body is its owner's JSON."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises Conflict when another engine has it, Internal for a broken or newer one."""
        self._path = path
        self._lock = _lock(path)
        self._writes = 0
        self._folding: asyncio.Task[None] | None = None
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            self._prepare()
        except sqlite3.Error as error:
            os.close(self._lock)
            raise _explain(error, path) from error
        except BaseException:
            os.close(self._lock)
            raise

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise Internal(f"{self._path} was written by a newer Sampan (schema {version}, this one knows {VERSION})")
        self._db.execute(_TABLES)
        if version < VERSION:
            self._db.execute(f"PRAGMA user_version={VERSION}")

    def load(self, kind: str) -> list[tuple[str, bytes]]:
        """All records of a kind: (id, body)."""
        return self._db.execute("SELECT id, body FROM record WHERE kind = ?", (kind,)).fetchall()

    def save(self, kind: str, id: str, body: bytes) -> None:
        """Insert or replace. Raises OutOfSpace, and nothing has changed."""
        self._execute("INSERT OR REPLACE INTO record (kind, id, body) VALUES (?, ?, ?)", (kind, id, body))

    def delete(self, kind: str, id: str) -> None:
        self._execute("DELETE FROM record WHERE kind = ? AND id = ?", (kind, id))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All changes of the block, or none."""
        self._execute("BEGIN IMMEDIATE", ())
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._execute("COMMIT", ())

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise _explain(error, self._path) from error
        self._writes += 1
        if self._writes >= _FOLD_EVERY and self._folding is None:
            with contextlib.suppress(RuntimeError):  # no loop: at the end, or in a test of this file
                self._folding = asyncio.get_running_loop().create_task(self._fold())

    async def _fold(self) -> None:
        await asyncio.sleep(_FOLD_DELAY)
        self._writes = 0
        try:
            await asyncio.to_thread(_checkpoint, self._path)
        finally:
            self._folding = None

    def close(self) -> None:
        """Fold the log back and let another engine in."""
        if self._folding is not None:
            self._folding.cancel()
        self._db.close()
        os.close(self._lock)


def _checkpoint(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _lock(path: Path) -> int:
    """Two engines on one data root would not know of each other's writes. The kernel drops the lock with the owner."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Conflict(f"another engine uses {path.parent}: it holds {path.with_suffix('.lock')}") from error
    return fd


def _explain(error: sqlite3.Error, path: Path) -> Exception:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return OutOfSpace(f"no space left on device: {path}")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return Internal(f"the state file {path} is broken ({error}): move it away to begin with an empty one")
    return Internal(f"{path}: {error}")
