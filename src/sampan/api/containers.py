"""/containers: what has one short answer."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api import terminal
from sampan.api.call import Call
from sampan.api.response import NO_CONTENT, OK, Response
from sampan.api.router import Route
from sampan.errors import InvalidArgument, Unsupported

WARNING = b"Sampan-Warning"


async def containers(call: Call) -> Response:
    query = call.query
    return answer.json(await call.engine.containers.list(
        all=query.flag("all"), limit=query.integer("limit"), size=query.flag("size"), filters=query.filters()
    ))


async def create(call: Call) -> Response:
    body = await call.json()
    if (platform := call.query.text("platform")) and isinstance(body.get("Image"), str):
        call.engine.images.check_platform(body["Image"], platform)
    return answer.json(await call.engine.containers.create(call.query.optional("name"), body), 201)


async def inspect(call: Call) -> Response:
    return answer.json(await call.engine.containers.inspect(call.name, size=call.query.flag("size")))


async def top(call: Call) -> Response:
    return answer.json(call.engine.containers.top(call.name, call.query.text("ps_args", "-ef")))


async def changes(call: Call) -> Response:
    return answer.json(await call.engine.containers.changes(call.name))


async def start(call: Call) -> Response:
    if call.query.text("checkpoint"):
        raise Unsupported("starting from a checkpoint is not supported yet")
    await call.engine.containers.start(call.name)
    return NO_CONTENT


async def stop(call: Call) -> Response:
    return _warned(
        await call.engine.containers.stop(call.name, call.query.integer("t"), call.query.optional("signal"))
    )


async def restart(call: Call) -> Response:
    return _warned(
        await call.engine.containers.restart(call.name, call.query.integer("t"), call.query.optional("signal"))
    )


def _warned(warnings: list[str]) -> Response:
    """Docker's answer has no place for warnings; a header of our own has, and other clients do not mind it."""
    return Response(204, headers=tuple((WARNING, _one_line(text)) for text in warnings))


def _one_line(text: str) -> bytes:
    return " ".join(text.split()).encode("ascii", "replace")


async def kill(call: Call) -> Response:
    await call.engine.containers.kill(call.name, call.query.text("signal", "SIGKILL") or "SIGKILL")
    return NO_CONTENT


async def pause(call: Call) -> Response:
    await call.engine.containers.pause(call.name)
    return NO_CONTENT


async def unpause(call: Call) -> Response:
    await call.engine.containers.unpause(call.name)
    return NO_CONTENT


async def rename(call: Call) -> Response:
    await call.engine.containers.rename(call.name, call.query.text("name"))
    return NO_CONTENT


async def update(call: Call) -> Response:
    return answer.json(await call.engine.containers.update(call.name, await call.json()))


async def resize(call: Call) -> Response:
    await call.engine.containers.resize(call.name, *terminal.window(call))
    return OK


async def remove(call: Call) -> Response:
    query = call.query
    if query.flag("link"):
        raise Unsupported("legacy container links are not supported")
    await call.engine.containers.remove(call.name, force=query.flag("force"), volumes=query.flag("v"))
    return NO_CONTENT


async def prune(call: Call) -> Response:
    return answer.json(await call.engine.containers.prune(call.query.filters()))


async def commit(call: Call) -> Response:
    """The body may hold a container config that replaces the container's own."""
    query = call.query
    if not query.text("container"):
        raise InvalidArgument("the container to commit is missing")
    image_id = await call.engine.containers.commit(
        query.text("container"), repository=query.text("repo"), tag=query.text("tag"),
        message=query.text("comment"), author=query.text("author"), pause=query.flag("pause", default=True),
        changes=query.all("changes"), config=await call.json(optional=True),
    )
    return answer.json({"Id": image_id}, 201)


ROUTES = [
    Route("GET", "/containers/json", containers),
    Route("GET", "/containers/{name}/json", inspect),
    Route("GET", "/containers/{name}/top", top),
    Route("GET", "/containers/{name}/changes", changes),
    Route("POST", "/containers/create", create),
    Route("POST", "/containers/prune", prune),
    Route("POST", "/containers/{name}/start", start),
    Route("POST", "/containers/{name}/stop", stop),
    Route("POST", "/containers/{name}/restart", restart),
    Route("POST", "/containers/{name}/kill", kill),
    Route("POST", "/containers/{name}/pause", pause),
    Route("POST", "/containers/{name}/unpause", unpause),
    Route("POST", "/containers/{name}/rename", rename),
    Route("POST", "/containers/{name}/update", update),
    Route("POST", "/containers/{name}/resize", resize),
    Route("DELETE", "/containers/{name}", remove),
    Route("POST", "/commit", commit),
]
