"""/build: the classic builder's API, a tar stream in, JSON lines out."""

from __future__ import annotations

from typing import Any

from sampan.api import response as answer
from sampan.api.call import Call
from sampan.api.pipe import request_body
from sampan.api.progress import Progress
from sampan.api.query import Query
from sampan.api.response import Response
from sampan.api.router import Route
from sampan.engine.builds import BuildOptions, failure
from sampan.errors import InvalidArgument, Unsupported

_NUMBERS = {
    "memory": "Memory", "memswap": "MemorySwap", "cpushares": "CpuShares", "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota", "shmsize": "ShmSize",
}
_TEXTS = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems", "cgroupparent": "CgroupParent"}
_LISTS = {"ulimits": "Ulimits", "securityopt": "SecurityOpt"}


async def build(call: Call) -> None:
    query = call.query
    if query.text("version", "1") not in ("", "1"):
        raise Unsupported("BuildKit is not supported: build with DOCKER_BUILDKIT=0")
    if remote := query.text("remote"):
        raise Unsupported(f"cannot build from {remote}: only a context sent with the request can be built")
    options = _options(query)
    async with request_body(call) as context, Progress(call, failure) as progress:
        await call.engine.builds.build(options, context, progress.emit)


async def prune(call: Call) -> Response:
    return answer.json(await call.engine.builds.prune(call.query.filters(), call.query.flag("all")))


async def cancel(call: Call) -> Response:
    raise Unsupported("a build is cancelled by ending its connection")


def _options(query: Query) -> BuildOptions:
    return BuildOptions(
        dockerfile=query.text("dockerfile") or "Dockerfile", tags=tuple(tag for tag in query.all("t") if tag),
        build_args=_map(query, "buildargs", optional=True), labels=_map(query, "labels"), target=query.text("target"),
        no_cache=query.flag("nocache"), pull=query.flag("pull"), rm=query.flag("rm", default=True),
        force_rm=query.flag("forcerm"), quiet=query.flag("q"), network=query.text("networkmode"),
        extra_hosts=tuple(query.all("extrahosts")), limits=_limits(query), platform=query.text("platform"),
        cache_from=tuple(_list(query, "cachefrom")), squash=query.flag("squash"),
    )


def _limits(query: Query) -> dict[str, Any]:
    """Members of HostConfig for the containers of RUN steps."""
    limits: dict[str, Any] = {name: query.integer(key) for key, name in _NUMBERS.items()}
    limits |= {name: query.text(key) for key, name in _TEXTS.items()}
    limits |= {name: _list(query, key) for key, name in _LISTS.items()}
    return {name: value for name, value in limits.items() if value}


def _map(query: Query, name: str, optional: bool = False) -> dict[str, Any]:
    """A JSON object of texts; where `optional`, also of nulls."""
    value = query.json(name)
    if value is None:
        return {}
    allowed = (str, type(None)) if optional else (str,)
    if not isinstance(value, dict) or not all(isinstance(text, allowed) for text in value.values()):
        raise InvalidArgument(f"invalid parameter {name}: expected a JSON object of texts")
    return value


def _list(query: Query, name: str) -> list[Any]:
    value = query.json(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidArgument(f"invalid parameter {name}: expected a JSON list")
    return value


ROUTES = [
    Route("POST", "/build", build, abandon=True),
    Route("POST", "/build/prune", prune),
    Route("POST", "/build/cancel", cancel),
]
