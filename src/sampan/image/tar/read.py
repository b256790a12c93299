"""The entries of a tar stream, one after the other, as the stream comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from sampan.errors import InvalidArgument
from sampan.image.tar import header
from sampan.image.tar.entry import BLOCK, Entry

MAX_ATTRIBUTES = 8 << 20  # bytes of all special headers before one entry


class Reader:
    """Tar over a function that returns the next chunk of bytes, b"" at the end.

    for entry in reader.entries(): reader.copy(fd) or reader.content(limit) take the entry's content; what is not
    taken is skipped.
    """

    def __init__(self, chunk: Callable[[], bytes]) -> None:
        self._chunk = chunk
        self._data = b""
        self._at = 0
        self._left = 0  # content of the present entry that was not taken
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Raises InvalidArgument for what is no tar archive or ends in the middle. Trailing bytes are dropped."""
        while (entry := self._next()) is not None:
            self._left = entry.size
            self._padding = -entry.size % BLOCK
            yield entry
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
        self._drain()

    def copy(self, fd: int) -> None:
        """Write the rest of the entry's content to a file. OSError as write(2)."""
        while self._left:
            self._need()
            view = memoryview(self._data)[self._at : self._at + self._left]
            written = os.write(fd, view)
            self._at += written
            self._left -= written

    def content(self, limit: int) -> bytes:
        """The entry's content, at most `limit` bytes."""
        if self._left > limit:
            raise InvalidArgument(f"a file of {self._left} bytes in the archive: at most {limit} are allowed")
        size, self._left = self._left, 0
        return self._take(size)

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        names: dict[bytes, bytes] = {}
        budget = MAX_ATTRIBUTES
        while (block := self._block()) is not None:
            entry = header.parse(block)
            kind = entry.kind
            if kind not in (header.PAX, header.PAX_GLOBAL, header.LONG_NAME, header.LONG_LINK):
                entry.name = names.get(header.LONG_NAME, entry.name)
                entry.link = names.get(header.LONG_LINK, entry.link)
                if pax:
                    header.complete(entry, pax)
                header.check(entry)
                return entry
            budget -= entry.size
            if not 0 <= entry.size <= header.MAX_SPECIAL or budget < 0:
                raise InvalidArgument(f"invalid tar header: {entry.size} bytes of attributes for one entry")
            data = self._take(entry.size)
            self._skip(-entry.size % BLOCK)
            if kind == header.PAX:
                pax = header.records(data)
            elif kind != header.PAX_GLOBAL:  # global ones are comments of git archive and the like
                names[kind] = header.text(data)
        if pax or names:
            raise InvalidArgument("unexpected end of the archive: a header without its entry")
        return None

    def _block(self) -> bytes | None:
        """The next header; None at the two zero blocks, or where an archive ends without them."""
        if not self._more():
            return None
        block = self._take(BLOCK)
        if block != header.ZERO_BLOCK:
            return block
        if self._more() and self._take(BLOCK) != header.ZERO_BLOCK:
            raise InvalidArgument("invalid tar header: a single zero block")
        return None

    def _more(self) -> bool:
        if self._at >= len(self._data):
            self._data, self._at = self._chunk(), 0
        return bool(self._data)

    def _need(self) -> None:
        if not self._more():
            raise InvalidArgument("unexpected end of the archive")

    def _take(self, size: int) -> bytes:
        at = self._at
        data = self._data[at : at + size]
        self._at = at + len(data)
        if len(data) == size:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing:
            self._need()
            piece = self._data[self._at : self._at + missing]
            self._at += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        while size:
            self._need()
            step = min(size, len(self._data) - self._at)
            self._at += step
            size -= step

    def _drain(self) -> None:
        """The rest belongs to the stream's digest, not to the archive; it is never kept (CVE-2017-14992)."""
        self._data = b""
        while self._chunk():
            pass
