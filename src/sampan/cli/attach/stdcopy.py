"""Docker's frames for stdout and stderr on one stream: stream (1 byte), 3 zeros, length (4, big endian), data."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.cli.failure import ConnectionLost

HEADER = 8
STREAMS = (1, 2)  # the program's stdout and stderr (0 would be stdin echoed: stdout)
SYSTEM_ERROR = 3


class Demultiplexer:
    """Takes bytes as they come, gives (stream, data) as far as they reach; a frame may come in several pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 1
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(1 or 2, bytes), or (3, an error text of the engine). Raises ConnectionLost when these are no frames."""
        position = 0
        while position < len(data):
            if self._left == 0:
                missing = HEADER - len(self._header)
                self._header += data[position : position + missing]
                position += missing
                if len(self._header) < HEADER:
                    return
                self._begin()
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

    def _begin(self) -> None:
        kind = self._header[0]
        if kind > SYSTEM_ERROR or self._header[1:4] != b"\0\0\0":
            raise ConnectionLost(f"the engine's stream is not in frames: {self._header!r}")
        self._stream = max(kind, 1)
        self._left = int.from_bytes(self._header[4:], "big")
        self._header = b""
