"""JSON documents that a caller hands over: read whole, and bounded, because their writer may be anybody."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument
from sampan.lean import structs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar("_T")

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


def decode(data: bytes, kind: type[_T]) -> _T:
    """The document as `kind` has it. A member that is null counts as left out: so programs in Go read it, and so some
    write what they have nothing for. Raises structs.DecodeError.
    """
    if b"null" not in data:
        return structs.decode(data, type=kind)
    document = structs.decode(data)
    _forget_nulls(document)
    return structs.convert(document, type=kind)


def _forget_nulls(document: Any) -> None:
    """Of objects, however deep; in a list null stays, and is an error."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for name in [name for name, member in value.items() if member is None]:
                del value[name]
            left += value.values()
        elif isinstance(value, list):
            left += value
