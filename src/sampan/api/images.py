"""/images: list, inspect, history, tag, remove, prune, import, load, save; refusals where a registry is needed."""

from __future__ import annotations

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.pipe import request_body, response_body
from sampan.api.progress import Progress
from sampan.api.response import Response
from sampan.api.router import Route
from sampan.errors import InvalidArgument

TAR = b"application/x-tar"


async def images(call: Call) -> Response:
    filters = call.query.filters()
    if name := call.query.text("filter"):  # before API 1.41
        filters.setdefault("reference", []).append(name)
    found = call.engine.images.list(call.query.flag("all"), filters, call.query.flag("shared-size"))
    for image in found:
        if call.version < (1, 44):
            image["VirtualSize"] = image["Size"]
        if call.version < (1, 43) and not image["RepoTags"]:
            image["RepoTags"], image["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    return answer.json(found)


async def inspect(call: Call) -> Response:
    image = call.engine.images.inspect(call.name)
    if call.version < (1, 44):
        image["VirtualSize"] = image["Size"]
    return answer.json(image)


async def history(call: Call) -> Response:
    return answer.json(call.engine.images.history(call.name))


async def tag(call: Call) -> Response:
    call.engine.images.tag(call.name, call.query.text("repo"), call.query.text("tag"))
    return Response(201)


async def remove(call: Call) -> Response:
    records = await call.engine.images.remove(
        call.name, force=call.query.flag("force"), prune=not call.query.flag("noprune")
    )
    return answer.json(records)


async def prune(call: Call) -> Response:
    return answer.json(await call.engine.images.prune(call.query.filters()))


async def create(call: Call) -> Response | None:
    """Import (`fromSrc`) or pull (`fromImage`)."""
    query = call.query
    if source := query.text("fromSrc"):
        await _import(call, source)
        return None
    name, tag = query.text("fromImage"), query.text("tag")
    if not name:
        raise InvalidArgument("an image to pull (fromImage) or a source to import (fromSrc) is missing")
    separator = "@" if ":" in tag else ":"
    call.engine.images.pull(f"{name}{separator}{tag}" if tag else name)


async def _import(call: Call, source: str) -> None:
    query = call.query
    if source != "-":
        raise InvalidArgument(f"cannot import from {source}: only an archive sent with the request (-) can be imported")
    name = query.text("repo")
    if name and query.text("tag"):
        name = f"{name}:{query.text('tag')}"
    async with request_body(call) as fd, Progress(call) as progress:
        image_id = await call.engine.images.import_(
            fd, source, name, query.text("message"), query.all("changes"), query.text("platform")
        )
        progress.emit({"status": image_id})


async def load(call: Call) -> None:
    async with request_body(call) as fd, Progress(call) as progress:
        await call.engine.images.load(fd, progress.emit, call.query.flag("quiet"))


async def save(call: Call) -> None:
    """`/images/get?names=…` and `/images/NAME/get`."""
    names = [call.name] if call.name else call.query.all("names")
    await response_body(call, TAR, lambda fd: call.engine.images.save(names, fd))


async def push(call: Call) -> Response:
    tag = call.query.text("tag")
    call.engine.images.push(f"{call.name}:{tag}" if tag else call.name)


async def search(call: Call) -> Response:
    call.engine.images.search(call.query.text("term"))


ROUTES = [
    Route("GET", "/images/json", images),
    Route("GET", "/images/search", search),
    Route("GET", "/images/get", save, abandon=True),
    Route("GET", "/images/{name}/get", save, abandon=True),
    Route("GET", "/images/{name}/history", history),
    Route("GET", "/images/{name}/json", inspect),
    Route("POST", "/images/create", create, abandon=True),
    Route("POST", "/images/load", load, abandon=True),
    Route("POST", "/images/prune", prune),
    Route("POST", "/images/{name}/push", push),
    Route("POST", "/images/{name}/tag", tag),
    Route("DELETE", "/images/{name}", remove),
]
