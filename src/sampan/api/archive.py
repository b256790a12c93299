"""/containers/ID/archive and /export: files out of a container and into it, as tar streams."""

from __future__ import annotations

import base64
from typing import Any

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.pipe import request_body, response_body
from sampan.api.response import OK, Response
from sampan.api.router import Route
from sampan.errors import InvalidArgument

TAR = b"application/x-tar"


def _path(call: Call) -> str:
    path = call.query.text("path")
    if not path:
        raise InvalidArgument("Bad parameters: 'path' cannot be empty")
    return path


def _stat_header(stat: dict[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
    encoded = base64.b64encode(answer.encode(stat).rstrip())
    return ((b"X-Docker-Container-Path-Stat", encoded),)


async def head(call: Call) -> Response:
    stat = await call.engine.containers.archive_stat(call.name, _path(call))
    return Response(200, headers=_stat_header(stat))


async def get(call: Call) -> None:
    path = _path(call)
    stat = await call.engine.containers.archive_stat(call.name, path)
    await response_body(
        call, TAR, lambda fd: call.engine.containers.archive_get(call.name, path, fd), _stat_header(stat)
    )


async def put(call: Call) -> Response:
    path, no_overwrite = _path(call), call.query.flag("noOverwriteDirNonDir")
    async with request_body(call) as fd:
        await call.engine.containers.archive_put(call.name, path, fd, no_overwrite)
    return OK


async def export(call: Call) -> None:
    await response_body(call, TAR, lambda fd: call.engine.containers.export(call.name, fd))


ROUTES = [
    Route("HEAD", "/containers/{name}/archive", head),
    Route("GET", "/containers/{name}/archive", get, abandon=True),
    Route("PUT", "/containers/{name}/archive", put, abandon=True),
    Route("GET", "/containers/{name}/export", export, abandon=True),
]
