"""/networks: the predefined ones."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.response import Response
from sampan.api.router import Route


async def networks(call: Call) -> Response:
    return answer.json(call.engine.networks.list(call.query.filters()))


async def inspect(call: Call) -> Response:
    return answer.json(call.engine.networks.inspect(call.name))


async def create(call: Call) -> Response:
    call.engine.networks.create(await call.json())


async def connect(call: Call) -> Response:
    call.engine.networks.connect(call.name)


async def disconnect(call: Call) -> Response:
    call.engine.networks.disconnect(call.name)


async def remove(call: Call) -> Response:
    call.engine.networks.remove(call.name)


async def prune(call: Call) -> Response:
    return answer.json(call.engine.networks.prune(call.query.filters()))


ROUTES = [
    Route("GET", "/networks", networks),
    Route("GET", "/networks/{name}", inspect),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("POST", "/networks/{name}/connect", connect),
    Route("POST", "/networks/{name}/disconnect", disconnect),
    Route("DELETE", "/networks/{name}", remove),
]
