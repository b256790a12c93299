"""Docker's json-file log: one JSON object a line, rotated by size."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

MAX_LINE = 16 << 10  # a longer line is logged in pieces; a piece has no newline at its end, as Docker's

_encode = msgspec.json.Encoder().encode


def now() -> str:
    """RFC 3339 with nanoseconds, UTC, as Docker writes times."""
    nanos = time.time_ns()
    return f"{datetime.fromtimestamp(nanos // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{nanos % 10**9:09d}Z"


class LogFile:
    """Appends to `path`; at `max_size` bytes it becomes path.1, path.1 becomes path.2, up to `max_files` in all.

    A full disk loses lines, not the container: what could not be written is counted and said once it can be.
    """

    def __init__(self, path: str, max_size: int, max_files: int, fd: int) -> None:
        """`fd` is `path`, opened by `open_log`; it is closed here."""
        self._path = path
        self._max_size = max_size
        self._max_files = max(max_files, 1)
        self._fd = fd
        self._size = os.fstat(self._fd).st_size
        self._rest: dict[str, bytes] = {}
        self._lost = 0

    def write(self, stream: str, data: bytes) -> None:
        """Log what a stream printed; an unfinished line waits for its end."""
        data = self._rest.pop(stream, b"") + data
        lines = data.split(b"\n")
        rest = lines.pop()
        stamp = now()
        out = [self._entry(stream, line + b"\n", stamp) for line in lines]
        while len(rest) >= MAX_LINE:
            out.append(self._entry(stream, rest[:MAX_LINE], stamp))
            rest = rest[MAX_LINE:]
        if rest:
            self._rest[stream] = rest
        self._append_all(out)

    def close(self) -> None:
        """Write unfinished lines as they are, and close."""
        stamp = now()
        for stream, rest in self._rest.items():
            self._append(self._entry(stream, rest, stamp))
        self._rest.clear()
        os.close(self._fd)

    def _entry(self, stream: str, line: bytes, stamp: str) -> bytes:
        if len(line) > MAX_LINE + 1:
            pieces = [line[at : at + MAX_LINE] for at in range(0, len(line), MAX_LINE)]
            return b"".join(self._entry(stream, piece, stamp) for piece in pieces)
        return _encode({"log": line.decode("utf-8", "replace"), "stream": stream, "time": stamp}) + b"\n"

    def _append_all(self, entries: list[bytes]) -> None:
        """Append in one write per file: a chunk of short lines is many times larger as JSON."""
        begin, size = 0, self._size
        for number, entry in enumerate(entries):
            if size and size + len(entry) > self._max_size > 0 and number > begin:
                self._append(b"".join(entries[begin:number]))
                begin, size = number, 0
            size += len(entry)
        if begin < len(entries):
            self._append(b"".join(entries[begin:]))

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._max_size > 0:
            self._rotate()
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._lose(len(data), error)
            return
        self._size += written
        if written < len(data):
            self._lose(len(data) - written, OSError(28, os.strerror(28)))

    def _lose(self, count: int, error: OSError) -> None:
        if not self._lost:
            print(f"sampan-shim: {self._path}: {error.strerror}: log lines are lost", file=sys.stderr)  # noqa: T201
        self._lost += count

    def _rotate(self) -> None:
        os.close(self._fd)
        if self._max_files == 1:
            os.truncate(self._path, 0)
        else:
            names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_files))]
            for older, newer in reversed(list(pairwise(names))):
                if os.path.exists(older):
                    os.rename(older, newer)
        self._fd = open_log(self._path)
        self._size = 0


def open_log(path: str) -> int:
    """Open for appending, made if missing; never through a link. Raises OSError with the path."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
