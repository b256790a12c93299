"""JSON documents that a caller hands over: read whole, and bounded, because their writer may be anybody."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument

MAX_SIZE = 8 << 20


def read(fd: int, path: str) -> bytes:
    """All that a descriptor gives; it is closed. `path` is for the messages. Raises InvalidArgument past `MAX_SIZE`."""
    try:
        data = b""
        while len(data) <= MAX_SIZE and (more := os.read(fd, MAX_SIZE + 1 - len(data))):
            data += more
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)
    if len(data) > MAX_SIZE:
        raise InvalidArgument(f"{path} is larger than {MAX_SIZE >> 20} MiB")
    return data
