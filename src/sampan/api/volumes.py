"""/volumes."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.response import NO_CONTENT, Response
from sampan.api.router import Route
from sampan.errors import Unsupported


async def volumes(call: Call) -> Response:
    return answer.json(call.engine.volumes.list(call.query.filters()))


async def create(call: Call) -> Response:
    return answer.json(call.engine.volumes.create(await call.json(optional=True)), 201)


async def inspect(call: Call) -> Response:
    return answer.json(call.engine.volumes.inspect(call.name))


async def remove(call: Call) -> Response:
    call.engine.volumes.remove(call.name, call.query.flag("force"))
    return NO_CONTENT


async def prune(call: Call) -> Response:
    filters = call.query.filters()
    if call.version < (1, 42):  # all volumes then, named ones too
        filters.setdefault("all", ["true"])
    return answer.json(await call.engine.volumes.prune(filters))


async def update(call: Call) -> Response:
    raise Unsupported("only cluster volumes can be updated, and Sampan has none")


ROUTES = [
    Route("GET", "/volumes", volumes),
    Route("GET", "/volumes/{name}", inspect),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune),
    Route("PUT", "/volumes/{name}", update),
    Route("DELETE", "/volumes/{name}", remove),
]
