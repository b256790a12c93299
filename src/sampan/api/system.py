"""/_ping, /version, /info, /events, /system/df, /auth."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.response import Response
from sampan.api.router import MAX_VERSION, MIN_VERSION, Route
from sampan.engine import timestamps
from sampan.errors import Unsupported

_PING = (
    (b"Builder-Version", b"1"),  # the classic build API: the docker command then does not ask for BuildKit
    (b"Swarm", b"inactive"),
    (b"Cache-Control", b"no-cache, no-store, must-revalidate"),
    (b"Pragma", b"no-cache"),
)
_PONG = Response(200, b"OK", b"text/plain; charset=utf-8", _PING)


async def ping(call: Call) -> Response:
    return _PONG


async def version(call: Call) -> Response:
    spoken = {"ApiVersion": _dotted(MAX_VERSION), "MinAPIVersion": _dotted(MIN_VERSION)}
    found = call.engine.system.version()
    for component in found["Components"]:
        component["Details"] |= spoken
    return answer.json(found | spoken)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


async def info(call: Call) -> Response:
    return answer.json(call.engine.system.info())


async def events(call: Call) -> None:
    """A stream of JSON lines. Its head goes out at once: clients take it as "now I am listening"."""
    since, until = call.query.optional("since"), call.query.optional("until")
    stream = call.engine.events.subscribe(
        None if since is None else timestamps.parse(since), None if until is None else timestamps.parse(until),
        call.query.filters(),
    )
    await call.start()
    await call.stream(stream)


async def disk_usage(call: Call) -> Response:
    return answer.json(await call.engine.system.df(call.query.all("type")))


async def auth(call: Call) -> Response:
    raise Unsupported("Sampan has no registry support yet: there is nothing to log in to")


ROUTES = [
    Route("GET", "/_ping", ping),
    Route("HEAD", "/_ping", ping),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/events", events, abandon=True),
    Route("GET", "/system/df", disk_usage, abandon=True),
    Route("POST", "/auth", auth),
]
