"""Reading log files: tails, rotation, what is torn."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sampan.engine.log_reader import LogFiles, Output, Reader
from sampan.engine.logs import LogOptions


def entries(first: int, last: int) -> bytes:
    return b"".join(
        b'{"log":"%d\\n","stream":"stdout","time":"2026-01-01T00:00:%02d.000000000Z"}\n' % (number, number)
        for number in range(first, last)
    )


def read(directory: Path, **options: object) -> list[int]:
    near, far = socket.socketpair()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    with near, far:
        chosen = LogOptions(**options)  # type: ignore[arg-type]
        newest = Reader(LogFiles(fd, "log"), Output(far, chosen, framed=False), chosen).history()
        if newest is not None:
            os.close(newest)
        far.close()
        data = b""
        while piece := near.recv(65536):
            data += piece
    os.close(fd)
    return [int(line) for line in data.split()]


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    for name, first, last in (("log.2", 0, 20), ("log.1", 20, 40), ("log", 40, 50)):
        (tmp_path / name).write_bytes(entries(first, last))
    return tmp_path


@pytest.mark.parametrize("tail", [0, 1, 9, 10, 11, 29, 30, 31, 49, 50, 51, 1000])
def test_tail_over_files(rotated: Path, tail: int) -> None:
    assert read(rotated, tail=tail) == list(range(50))[max(0, 50 - tail) if tail else 50 :]


def test_all_and_by_time(rotated: Path) -> None:
    assert read(rotated) == list(range(50))
    base = 1767225600 * 10**9  # 2026-01-01
    assert read(rotated, since=base + 45 * 10**9) == list(range(45, 50))
    assert read(rotated, until=base + 3 * 10**9) == [0, 1, 2, 3]
    assert read(rotated, stdout=False) == []


def test_nothing_and_torn_lines(tmp_path: Path) -> None:
    assert read(tmp_path) == [] and read(tmp_path, tail=3) == []
    (tmp_path / "log").write_bytes(b'{"log"\n' + entries(1, 3) + b'{"log":"3')
    assert read(tmp_path) == [1, 2]


def test_a_symlink_or_fifo_is_not_a_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    assert read(tmp_path) == []
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        read(tmp_path)


def test_the_next_file_after_a_rotation(rotated: Path) -> None:
    fd = os.open(rotated, os.O_RDONLY | os.O_DIRECTORY)
    files = LogFiles(fd, "log")
    held = os.open(rotated / "log.2", os.O_RDONLY)
    following = files.next_after(held)
    assert following is not None and os.path.samestat(os.fstat(following), os.stat(rotated / "log.1"))
    newest = files.next_after(following)
    assert newest is not None and files.next_after(newest) is None
    (rotated / "log.2").unlink()  # rotated out of existence: the oldest that is left goes on
    oldest = files.next_after(held)
    assert oldest is not None and os.path.samestat(os.fstat(oldest), os.stat(rotated / "log.1"))
    for each in (fd, held, following, newest, oldest):
        os.close(each)
