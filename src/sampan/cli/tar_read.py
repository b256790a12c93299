"""Reading tar streams: ustar, PAX and GNU's long names (POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format").

Bounded: an extended header larger than EXTENDED_LIMIT, or a name longer than the kernel takes, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.cli.failure import CommandFailed
from sampan.cli.tar_write import BLOCK, Entry

EXTENDED_LIMIT = 1 << 20
NAME_LIMIT = 4096


class TarStream:
    """Entries of a stream of blocks, in order. An entry's content is read before the next one, or not at all."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = b""
        self._left = 0
        self._padding = 0

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer at the end of the stream."""
        while len(self._buffer) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._buffer += block
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def content(self) -> Iterator[bytes]:
        """The present entry's bytes. Raises CommandFailed when the stream ends too early."""
        while self._left:
            if not self._buffer:
                self._buffer = next(self._blocks, b"")
            data, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
            if not data:
                raise CommandFailed("broken archive: it ends in the middle of a file")
            self._left -= len(data)
            yield data
        self._take(self._padding)
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Raises CommandFailed for what is no tar archive."""
        records: dict[bytes, bytes] = {}
        while True:
            for _ in self.content():
                pass
            block = self._take(BLOCK)
            if len(block) < BLOCK or block == bytes(BLOCK):
                return
            entry = _parse(block)
            self._left, self._padding = entry.size, -entry.size % BLOCK
            if entry.kind in (b"x", b"L", b"K", b"g"):
                data = self._extended(entry)
                if entry.kind == b"x":
                    records.update(_records(data))
                elif entry.kind != b"g":
                    records[b"path" if entry.kind == b"L" else b"linkpath"] = data.rstrip(b"\0")
                continue
            _apply(entry, records)
            records = {}
            self._left, self._padding = entry.size, -entry.size % BLOCK
            yield entry

    def _extended(self, entry: Entry) -> bytes:
        if entry.size > EXTENDED_LIMIT:
            raise CommandFailed(f"broken archive: an extended header of {entry.size} bytes")
        return b"".join(self.content())


def _number(field: bytes) -> int:
    """Octal, or GNU's base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value if not field[0] & 0x40 else value - (1 << (8 * len(field) - 1))
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise CommandFailed("broken archive: a number in a header is not one") from None


def _parse(block: bytes) -> Entry:
    if _number(block[148:156]) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise CommandFailed("broken archive: a header's checksum is wrong")
    name = block[:100].split(b"\0")[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345:500].split(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    kind = block[156:157] if block[156:157] != b"\0" else b"0"
    size = _number(block[124:136]) if kind in b"07xgLK" else 0
    if size < 0:
        raise CommandFailed("broken archive: a file of negative size")
    return Entry(
        name, kind=b"0" if kind == b"7" else kind, mode=_number(block[100:108]) & 0o7777, size=size,
        mtime=_number(block[136:148]), link=block[157:257].split(b"\0")[0], uid=_number(block[108:116]),
        gid=_number(block[116:124]), major=_number(block[329:337]), minor=_number(block[337:345]),
    )


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        length_text, space, _ = data[:20].partition(b" ")
        if not space or not length_text.isdigit() or not 4 < int(length_text) <= len(data):
            raise CommandFailed("broken archive: a malformed PAX header")
        key, equals, value = data[len(length_text) + 1 : int(length_text) - 1].partition(b"=")
        if not equals:
            raise CommandFailed("broken archive: a malformed PAX header")
        yield key, value
        data = data[int(length_text) :]


def _apply(entry: Entry, records: dict[bytes, bytes]) -> None:
    entry.name = records.get(b"path", entry.name)
    entry.link = records.get(b"linkpath", entry.link)
    for key in ("size", "uid", "gid"):
        text = records.get(key.encode(), b"")
        if text.isdigit() and len(text) < 20:
            setattr(entry, key, int(text))
    seconds = records.get(b"mtime", b"").partition(b".")[0]
    if seconds.lstrip(b"-").isdigit() and len(seconds) < 20:
        entry.mtime = int(seconds)
    if max(len(entry.name), len(entry.link)) > NAME_LIMIT:
        raise CommandFailed("broken archive: a name longer than 4096 bytes")
