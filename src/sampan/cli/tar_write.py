"""Writing tar archives as a stream: ustar headers, with a PAX header before what does not fit (POSIX.1-2017, pax)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sampan.cli.failure import CommandFailed

BLOCK = 512
READ = 256 << 10
NAME_LIMIT = 100
OCTAL_LIMIT = 8**11
TYPES = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
END = bytes(2 * BLOCK)


class Entry:
    """What a header says about one file. `name` and `link` as bytes; a directory's name ends with a slash."""

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime", "name", "size", "uid")

    def __init__(
        self, name: bytes, *, kind: bytes = b"0", mode: int = 0o644, size: int = 0, mtime: int = 0, link: bytes = b"",
        uid: int = 0, gid: int = 0, major: int = 0, minor: int = 0,
    ) -> None:
        self.name = name
        self.kind = kind
        self.mode = mode
        self.size = size
        self.mtime = mtime
        self.link = link
        self.uid = uid
        self.gid = gid
        self.major = major
        self.minor = minor


def entry_of(name: bytes, details: os.stat_result, keep_owner: bool) -> Entry | None:
    """The header's facts from lstat(2); None for what tar cannot hold (a socket). The link's target is not set."""
    kind = TYPES.get(stat.S_IFMT(details.st_mode))
    if kind is None:
        return None
    is_device = kind in (b"3", b"4")
    return Entry(
        name + (b"/" if kind == b"5" else b""), kind=kind, mode=stat.S_IMODE(details.st_mode),
        size=details.st_size if kind == b"0" else 0, mtime=int(details.st_mtime),
        uid=details.st_uid if keep_owner else 0, gid=details.st_gid if keep_owner else 0,
        major=os.major(details.st_rdev) if is_device else 0, minor=os.minor(details.st_rdev) if is_device else 0,
    )


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _block(entry: Entry) -> bytes:
    header = b"".join((
        entry.name[:NAME_LIMIT].ljust(100, b"\0"), _octal(entry.mode & 0o7777, 8), _octal(entry.uid & 0o7777777, 8),
        _octal(entry.gid & 0o7777777, 8), _octal(entry.size % OCTAL_LIMIT, 12),
        _octal(max(entry.mtime, 0) % OCTAL_LIMIT, 12), b" " * 8, entry.kind, entry.link[:NAME_LIMIT].ljust(100, b"\0"),
        b"ustar\x0000", bytes(64), _octal(entry.major, 8), _octal(entry.minor, 8), bytes(167),
    ))
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _records(entry: Entry) -> bytes:
    """PAX records for what the plain header cannot say."""
    said: dict[bytes, bytes] = {}
    if len(entry.name) > NAME_LIMIT or not entry.name.isascii():
        said[b"path"] = entry.name
    if len(entry.link) > NAME_LIMIT or not entry.link.isascii():
        said[b"linkpath"] = entry.link
    if entry.size >= OCTAL_LIMIT:
        said[b"size"] = b"%d" % entry.size
    if not 0 <= entry.mtime < OCTAL_LIMIT:
        said[b"mtime"] = b"%d" % entry.mtime
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value > 0o7777777:
            said[key] = b"%d" % value
    return b"".join(_record(key, value) for key, value in said.items())


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%b" % (length, rest)


def header(entry: Entry) -> bytes:
    """Everything that precedes an entry's content."""
    records = _records(entry)
    if not records:
        return _block(entry)
    extension = Entry(b"PaxHeaders/" + entry.name[-80:].strip(b"/"), kind=b"x", size=len(records))
    return _block(extension) + records + padding(len(records)) + _block(entry)


def padding(size: int) -> bytes:
    """Up to the next block."""
    return bytes(-size % BLOCK)


def file_entry(name: bytes, content: bytes, mode: int = 0o600) -> bytes:
    """A small file, whole."""
    return header(Entry(name, mode=mode, size=len(content))) + content + padding(len(content))


def content_of(fd: int, entry: Entry, path: str) -> Iterator[bytes]:
    """Exactly `entry.size` bytes of `fd`, and the padding. Raises CommandFailed when the file has become shorter."""
    left = entry.size
    while left:
        block = os.read(fd, min(READ, left))
        if not block:
            raise CommandFailed(f"{path} became shorter while it was read")
        left -= len(block)
        yield block
    yield padding(entry.size)
