"""Bodies too large for memory travel through a pipe: the far end is a job's file descriptor.

A full pipe stops the reading of the socket and so the client; an empty one waits for the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from sampan.api.call import Call
from sampan.errors import InvalidArgument

_SIZE = 1 << 20  # fs.pipe-max-size of an unprivileged user

Produce = Callable[[int], Awaitable[None]]


@contextlib.asynccontextmanager
async def request_body(call: Call) -> AsyncIterator[int]:
    """The request's body as a file descriptor to read from (a blocking pipe), closed at the end of the block.

    A body that ends early ends the block with InvalidArgument: half an archive must not look like a whole one.
    """
    reading, writing = _pipe()
    owner = asyncio.current_task()
    assert owner is not None
    pump = asyncio.create_task(_fill(call, writing))
    broken: list[BaseException] = []

    def stop(pump: asyncio.Task[None]) -> None:
        if not pump.cancelled() and (error := pump.exception()) is not None:
            broken.append(error)
            owner.cancel()

    pump.add_done_callback(stop)
    try:
        yield reading
    except asyncio.CancelledError:
        if broken and owner.uncancel() == 0:
            raise InvalidArgument(f"the request's body ended early: {broken[0]}") from broken[0]
        raise
    finally:
        os.close(reading)
        pump.remove_done_callback(stop)
        pump.cancel()
        await asyncio.wait([pump])
        os.close(writing)
        if not pump.cancelled():
            pump.exception()  # seen: the block's own outcome is what counts


async def _fill(call: Call, writing: int) -> None:
    while piece := await call.read():
        if not await _write(writing, piece):
            return
    # The reader must see the end, while `writing` stays a valid number for the one who closes it.
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, writing, inheritable=False)
    os.close(null)


async def _write(fd: int, piece: bytes) -> bool:
    """Write it all; False when the reader has closed its end: it has seen enough."""
    view = memoryview(piece)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, writing=True)
        except BrokenPipeError:
            return False
    return True


async def response_body(
    call: Call, content_type: bytes, produce: Produce, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Stream what `produce` (given a descriptor to write to, which it must not close) writes as the answer's body.

    The answer begins with the first byte: an error before it is an ordinary error answer, one after it cuts the
    connection so that the client sees that the body is not whole.
    """
    reading, writing = _pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, True)
    producer = asyncio.ensure_future(produce(writing))
    producer.add_done_callback(lambda _: os.close(writing))
    try:
        while piece := await _read(reading):
            if not call.started:
                await call.start(content_type, headers)
            await call.write(piece)
        await producer
        if not call.started:
            await call.start(content_type, headers)
    finally:
        os.close(reading)
        producer.cancel()
        await asyncio.wait([producer])


async def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, _SIZE)
        except BlockingIOError:
            await _ready(fd, writing=False)


async def _ready(fd: int, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    (loop.add_writer if writing else loop.add_reader)(fd, settle)
    try:
        await ready
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(fd)


def _pipe() -> tuple[int, int]:
    """A pipe whose writing end does not block, as large as an unprivileged user may have it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    with contextlib.suppress(PermissionError):  # fs.pipe-user-pages-soft: then it stays small
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _SIZE)
    return reading, writing
