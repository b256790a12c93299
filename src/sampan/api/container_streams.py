"""/containers: wait, attach, logs, stats. Sockets of attach and logs are given away: the engine carries no output."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api import terminal
from sampan.api.call import MULTIPLEXED_STREAM, RAW_STREAM, Call
from sampan.api.response import Response
from sampan.api.router import Route
from sampan.engine import timestamps
from sampan.engine.logs import LogOptions
from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.shim.messages import ClientOptions


async def wait(call: Call) -> None:
    """The head goes out at once: clients wait for it before they start the container."""
    ended = call.engine.containers.wait(call.name, call.query.text("condition") or "not-running")
    try:
        await call.start()
        await call.write(answer.encode(await ended))
    finally:
        ended.cancel()


async def attach(call: Call) -> None:
    query = call.query
    tty = call.engine.containers.check_attach(call.name)
    options = ClientOptions(
        stdin=query.flag("stdin"), stdout=query.flag("stdout"), stderr=query.flag("stderr"), tty=tty,
        detach_keys=query.text("detachKeys"),
    )
    client = await terminal.take(call, tty, options)
    spare = client.sock.dup()
    try:
        await call.engine.containers.attach(call.name, client, logs=query.flag("logs"), stream=query.flag("stream"))
    except SampanError as error:
        terminal.tell(spare, tty, str(error))
    finally:
        spare.close()


async def attach_websocket(call: Call) -> Response:
    raise Unsupported("attaching through a web socket is not supported: use attach")


async def logs(call: Call) -> None:
    query = call.query
    options = LogOptions(
        stdout=query.flag("stdout"), stderr=query.flag("stderr"), follow=query.flag("follow"),
        timestamps=query.flag("timestamps"), details=query.flag("details"), tail=_tail(query.text("tail", "all")),
        since=_moment(query.text("since")), until=_moment(query.text("until")),
    )
    if not options.stdout and not options.stderr:
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tty = call.engine.containers.check_logs(call.name)
    kind = MULTIPLEXED_STREAM if not tty and call.version >= (1, 42) else RAW_STREAM
    await call.engine.containers.logs(call.name, options, await call.give_away(kind))


def _tail(text: str) -> int | None:
    """The number of last lines, None for all; like dockerd, anything that is no number means all."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _moment(text: str) -> int | None:
    """Nanoseconds; None for "no bound", which clients also say with 0."""
    return timestamps.parse(text) if text and text != "0" else None


async def stats(call: Call) -> None:
    stream = call.query.flag("stream", default=True)
    if stream and call.query.flag("one-shot"):
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    await call.stream(call.engine.containers.stats(call.name, stream, call.query.flag("one-shot")))


ROUTES = [
    Route("POST", "/containers/{name}/wait", wait, abandon=True),
    Route("POST", "/containers/{name}/attach", attach),
    Route("GET", "/containers/{name}/attach/ws", attach_websocket),
    Route("GET", "/containers/{name}/logs", logs),
    Route("GET", "/containers/{name}/stats", stats, abandon=True),
]
