"""Docker's progress streams: JSON lines, the error in the last one if it comes after the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sampan.api import response as answer
from sampan.api import status
from sampan.api.call import Call
from sampan.errors import Internal, SampanError

_MAX_WAITING = 8 << 20  # bytes a client may be behind before output is left out
_CLIPPED = b'{"stream":"\\n[output clipped: it comes faster than it is read]\\n"}\n'


Describe = Callable[[SampanError], dict[str, Any]]


def _detail(error: SampanError) -> dict[str, Any]:
    return {"errorDetail": {"message": str(error)}, "error": str(error)}


class Progress:
    """`async with Progress(call) as progress:` … `progress.emit({"stream": …})`, which never waits.

    The answer begins with the first message; an error before it is an ordinary error answer. A client that does not
    read slows nothing down: messages wait in memory up to a bound, then output is left out, and the client told so.
    Results and errors are never left out.
    """

    def __init__(self, call: Call, describe: Describe | None = None) -> None:
        """`describe` makes the last message of an error; by default Docker's errorDetail with the text alone."""
        self._call = call
        self._describe = describe or _detail
        self._lines: list[bytes] = []
        self._waiting = 0
        self._clipping = False
        self._more = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._ended = False

    def emit(self, message: dict[str, Any]) -> None:
        """Raises ConnectionError when the client is gone."""
        line = answer.encode(message)
        if self._waiting + len(line) > _MAX_WAITING and not message.keys() & {"aux", "error"}:
            line = b"" if self._clipping else _CLIPPED
            self._clipping = True
        if line:
            self._lines.append(line)
            self._waiting += len(line)
            self._more.set()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        elif self._writer.done():
            self._writer.result()

    async def _write(self) -> None:
        await self._call.start()
        while True:
            lines, self._lines = self._lines, []
            await self._call.write(b"".join(lines))
            self._waiting -= sum(map(len, lines))
            self._clipping = self._clipping and self._waiting > 0
            if self._ended and not self._lines:
                return
            self._more.clear()
            if not self._lines and not self._ended:
                await self._more.wait()

    async def __aenter__(self) -> Progress:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        told = False
        if self._writer is not None and isinstance(error, SampanError | OSError):
            told_error = error if isinstance(error, SampanError) else Internal(status.of(error)[1])
            self._lines.append(answer.encode(self._describe(told_error)))
            told = True
        self._ended = True
        self._more.set()
        if self._writer is not None:
            if error is not None and not told:
                self._writer.cancel()
            await asyncio.wait([self._writer])
            if not self._writer.cancelled():
                self._writer.result()
        return told
