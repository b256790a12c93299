"""The job that writes a container's log to a client: history, then what comes, until the container's run has ended.

It has the client's socket, the container's directory and, for following, its run directory. It asks nobody anything: it
goes on when the engine is killed, and ends with the client, or with the run (exit.json there, or the directory gone).
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from sampan.engine.logs import LogOptions
from sampan.jobs.forkserver import Channel
from sampan.linux.inotify import IN_CREATE, IN_DELETE_SELF, IN_MODIFY, IN_MOVED_TO, Inotify
from sampan.shim.messages import EXIT_FILE

_CHUNK = 256 << 10
_MAX_LINE = 1 << 20  # the shim writes at most some 100 KiB: a longer line is not its
_MAX_FILES = 1000
_FRAME = struct.Struct(">BxxxL")
_STREAMS = {"stdout": 1, "stderr": 2}


class Entry(msgspec.Struct):
    """A line of Docker's json-file format; `log` without a newline is a piece of a long line."""

    log: str
    stream: str
    time: str


_decode = msgspec.json.Decoder(Entry).decode


def read_log(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """fds: the client's socket, the container's directory, and the run directory to follow the log. args: name (of the
    log file), options (LogOptions), framed (stdcopy frames, not a raw stream). → {}"""
    options = msgspec.convert(args["options"], LogOptions)
    with socket.socket(fileno=fds[0]) as sock:
        sock.setblocking(True)
        reader = Reader(LogFiles(fds[1], args["name"]), Output(sock, options, args["framed"]), options)
        try:
            if len(fds) > 2:
                reader.follow(sock, fds[1], fds[2])
            else:
                reader.history()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has seen enough
    return {}


class LogFiles:
    """A log and its rotated files: NAME, NAME.1, NAME.2, … newest first."""

    def __init__(self, directory: int, name: str) -> None:
        self._directory = directory
        self._name = name

    def open_all(self) -> list[int]:
        """All files, oldest first. One that is rotated meanwhile is not taken twice."""
        found: dict[int, int] = {}
        for number in range(_MAX_FILES):
            fd = self._open(number)
            if fd is None:
                break
            inode = os.fstat(fd).st_ino
            if inode in found:
                os.close(fd)
            else:
                found[inode] = fd
        return list(found.values())[::-1]

    def next_after(self, fd: int) -> int | None:
        """The file that was begun after this one was rotated away; None if this is still the newest."""
        inode = os.fstat(fd).st_ino
        newer: int | None = None
        for number in range(_MAX_FILES):
            candidate = self._open(number)
            if candidate is None:
                return newer  # deleted by rotation: go on with the oldest there is
            if os.fstat(candidate).st_ino == inode:
                os.close(candidate)
                return newer
            if newer is not None:
                os.close(newer)
            newer = candidate
        return newer

    def _open(self, number: int) -> int | None:
        name = f"{self._name}.{number}" if number else self._name
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd


class Output:
    """Lines as the client wants them, many in one write."""

    def __init__(self, sock: socket.socket, options: LogOptions, framed: bool) -> None:
        self._sock = sock
        self._options = options
        self._framed = framed
        self._since = _stamp(options.since)
        self._until = _stamp(options.until)
        self._waiting = bytearray()
        self.passed_until = False

    def line(self, data: bytes) -> None:
        """One line of the file. What is not an entry (a crash tore it) is left out."""
        try:
            entry = _decode(data)
        except msgspec.DecodeError:
            return
        stream = _STREAMS.get(entry.stream, 1)
        if not (self._options.stdout if stream == 1 else self._options.stderr):
            return
        if self._since and entry.time < self._since:
            return
        if self._until and entry.time > self._until:
            self.passed_until = True
            return
        text = (" " if self._options.details else "") + entry.log
        payload = (f"{entry.time} {text}" if self._options.timestamps else text).encode()
        if self._framed:
            self._waiting += _FRAME.pack(stream, len(payload))
        self._waiting += payload
        if len(self._waiting) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Raises BrokenPipeError, ConnectionResetError when the client has gone."""
        if self._waiting:
            self._sock.sendall(self._waiting)
            self._waiting.clear()


class Reader:
    def __init__(self, files: LogFiles, output: Output, options: LogOptions) -> None:
        self._files = files
        self._output = output
        self._options = options
        self._rest = b""

    def history(self) -> int | None:
        """Write what is there; the newest file, open, at its end."""
        files = self._files.open_all()
        skip = _begin_of_tail(files, self._options.tail)
        for fd, offset in zip(files, skip, strict=True):
            os.lseek(fd, offset, os.SEEK_SET)
            self._drain(fd)
            if fd != files[-1]:
                self._end_of_file()
                os.close(fd)
        self._output.flush()
        return files[-1] if files else None

    def follow(self, sock: socket.socket, directory: int, run: int) -> None:
        """History, and what comes until the run ends, the client leaves, or `until` has passed."""
        inotify = Inotify()
        inotify.watch(directory, IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        inotify.watch(run, IN_MOVED_TO | IN_DELETE_SELF)
        poll = select.poll()
        poll.register(inotify.fd, select.POLLIN)
        poll.register(sock, 0)  # its hang-up alone: a client that only shuts its sending side down still listens
        current = self.history()
        while not self._output.passed_until:
            ended = _has_ended(run)
            current = self._catch_up(current)
            self._output.flush()
            if ended:
                return
            events = poll.poll(_milliseconds_until(self._options.until))
            if not events or any(fd == sock.fileno() for fd, _ in events):
                return
            inotify.clear()

    def _catch_up(self, current: int | None) -> int | None:
        while True:
            if current is None:
                current = next(iter(self._files.open_all()), None)
                if current is None:
                    return None
            elif os.fstat(current).st_size < os.lseek(current, 0, os.SEEK_CUR):
                os.lseek(current, 0, os.SEEK_SET)  # the only file of its log begins again
            self._drain(current)
            newer = self._files.next_after(current)
            if newer is None:
                return current
            self._drain(current)  # what was written between the last read and the rotation
            self._end_of_file()
            os.close(current)
            current = newer

    def _drain(self, fd: int) -> None:
        while data := os.read(fd, _CHUNK):
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > _MAX_LINE:
                self._rest = b""
            for line in lines:
                self._output.line(line)

    def _end_of_file(self) -> None:
        self._rest = b""


def _has_ended(run: int) -> bool:
    if os.fstat(run).st_nlink == 0:
        return True
    try:
        os.stat(EXIT_FILE, dir_fd=run, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _begin_of_tail(files: list[int], tail: int | None) -> list[int]:
    """Where to begin in each file (oldest first) so that `tail` lines are left."""
    begins = [0] * len(files)
    if tail is None:
        return begins
    for index in range(len(files) - 1, -1, -1):
        size = os.fstat(files[index]).st_size
        if not tail:
            begins[index] = size
            continue
        begins[index], found = _last_lines(files[index], size, tail)
        tail -= found
    return begins


def _last_lines(fd: int, size: int, count: int) -> tuple[int, int]:
    """(offset of the `count`-th line from the end, how many lines there are from it): read backwards in chunks."""
    found = 0
    for begin, chunk in _backwards(fd, size):
        at = len(chunk)
        while (at := chunk.rfind(b"\n", 0, at)) >= 0:
            if begin + at + 1 == size:
                continue  # the end of the last line
            found += 1
            if found == count:
                return begin + at + 1, count
    return 0, found + 1 if size else found


def _backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    end = size
    while end > 0:
        begin = max(0, end - _CHUNK)
        yield begin, os.pread(fd, end - begin, begin)
        end = begin


def _stamp(nanoseconds: int | None) -> str:
    """As the shim writes times: always nine digits, so that texts compare like times."""
    if nanoseconds is None:
        return ""
    seconds, rest = divmod(max(nanoseconds, 0), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _milliseconds_until(moment: int | None) -> float | None:
    return None if moment is None else max(0.0, (moment - time.time_ns()) / 1e6)
