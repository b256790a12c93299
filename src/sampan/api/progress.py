"""Docker's progress streams: JSON lines, the error in the last one if it comes after the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from sampan.api import response as answer
from sampan.api import status
from sampan.api.call import Call
from sampan.errors import Internal, SampanError, Unavailable

_MAX_WAITING = 64 << 20  # bytes a client may be behind before the work is broken off


Describe = Callable[[SampanError], dict[str, Any]]


def _detail(error: SampanError) -> dict[str, Any]:
    return {"errorDetail": {"message": str(error)}, "error": str(error)}


class Progress:
    """`async with Progress(call) as progress:` … `progress.emit({"stream": …})`, which never waits.

    The answer begins with the first message; an error before it is an ordinary error answer. A client that does not
    read slows nothing down: messages wait in memory, up to a bound.
    """

    def __init__(self, call: Call, describe: Describe | None = None) -> None:
        """`describe` makes the last message of an error; by default Docker's errorDetail with the text alone."""
        self._call = call
        self._describe = describe or _detail
        self._lines: list[bytes] = []
        self._waiting = 0
        self._more = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._ended = False

    def emit(self, message: dict[str, Any]) -> None:
        """Raises Unavailable when the client has not read for too long, ConnectionError when it is gone."""
        line = answer.encode(message)
        self._waiting += len(line)
        if self._waiting > _MAX_WAITING:
            raise Unavailable("the client does not read its answer")
        self._lines.append(line)
        self._more.set()
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        elif self._writer.done():
            self._writer.result()

    async def _write(self) -> None:
        await self._call.start()
        while True:
            lines, self._lines = self._lines, []
            self._waiting = 0
            await self._call.write(b"".join(lines))
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
