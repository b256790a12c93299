"""Moving large bodies: files to requests, answers to files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sampan.cli.failure import CommandFailed
from sampan.cli.http import Response

BLOCK = 256 << 10


def read_blocks(fd: int) -> Iterator[bytes]:
    """What can be read from `fd`, until its end. Does not close it."""
    while block := os.read(fd, BLOCK):
        yield block


def open_input(path: str) -> int:
    """A descriptor of a file to read; 0 for "-". Raises OSError with its path."""
    return 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def write_out(fd: int, data: bytes) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def save(response: Response, path: str, what: str) -> None:
    """An answer's body to stdout (path ""), or to a file that appears only when it is whole. Raises CommandFailed."""
    if not path:
        if os.isatty(1):
            response.close()
            raise CommandFailed(f"cowardly refusing to save {what} to a terminal: use -o FILE, or redirect the output")
        for block in response.blocks():
            write_out(1, block)
        return
    if os.path.exists(path) and not os.path.isfile(path):
        _save_into(response, os.open(path, os.O_WRONLY | os.O_CLOEXEC))  # a device or a FIFO: as it is
        return
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        _save_into(response, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _save_into(response: Response, fd: int) -> None:
    try:
        for block in response.blocks():
            write_out(fd, block)
    finally:
        os.close(fd)
