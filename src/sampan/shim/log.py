"""Docker's json-file log: one JSON object a line, rotated by size."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from itertools import pairwise

import msgspec

from sampan.shim.complaint import complain

MAX_LINE = 16 << 10  # a longer line is logged in pieces; a piece has no newline at its end, as Docker's

_encode = msgspec.json.Encoder().encode


def now() -> str:
    """RFC 3339 with nanoseconds, UTC, as Docker writes times."""
    nanos = time.time_ns()
    return f"{datetime.fromtimestamp(nanos // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{nanos % 10**9:09d}Z"


class LogFile:
    """Appends to `path`; at `max_size` bytes it becomes path.1, path.1 becomes path.2, up to `max_files` in all.

    A full disk, or a log that cannot be rotated, loses lines, not the container: what could not be written is
    counted, and said when it goes on.
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
        self._torn = False

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
        try:
            if self._size and self._size + len(data) > self._max_size > 0:
                self._rotate()
            if self._torn:
                data = b"\n" + data
            written = os.write(self._fd, data)
        except OSError as error:
            self._lose(len(data), error)
            return
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            self._lose(len(data) - written, OSError(28, os.strerror(28)))
        elif self._lost:
            complain(f"{self._path}: {self._lost} bytes were lost")
            self._lost = 0

    def _lose(self, count: int, error: OSError) -> None:
        if not self._lost:
            complain(f"{self._path}: {error.strerror}: log lines are lost")
        self._lost += count

    def _rotate(self) -> None:
        """Raises OSError, and the log goes on where it is."""
        if self._max_files == 1:
            os.ftruncate(self._fd, 0)
        else:
            fresh = f"{self._path}.new"
            fd = open_log(fresh)
            try:
                names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._max_files))]
                for older, newer in reversed(list(pairwise(names))):
                    if os.path.exists(older):
                        os.rename(older, newer)
                os.rename(fresh, self._path)
            except OSError:
                os.close(fd)
                raise
            os.close(self._fd)
            self._fd = fd
        self._size = 0
        self._torn = False


def open_log(path: str) -> int:
    """Open for appending, made if missing; never through a link. Raises OSError with the path."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
