"""One member of a tar archive."""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCK = 512

FILE = b"0"
HARDLINK = b"1"
SYMLINK = b"2"
CHAR = b"3"
BLOCKDEV = b"4"
DIRECTORY = b"5"
FIFO = b"6"
KINDS = frozenset({FILE, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO})


@dataclass(slots=True)
class Entry:
    """`name` and `link` are bytes as archived, unchecked; `kind` is one of the constants here, `mtime` nanoseconds.

    `size` is the number of content bytes that follow, 0 for all but files.
    """

    name: bytes
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)


def shown(name: bytes) -> str:
    """A name for an error message: bounded, printable."""
    text = name[:256].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
