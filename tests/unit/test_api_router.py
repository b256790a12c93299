"""Routes: versions, variables, what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.router import MAX_VERSION, Route, Router, split_version
from sampan.errors import InvalidArgument, NotFound


async def _handler(call: Any) -> None:
    return None


ROUTER = Router([
    Route("GET", "/_ping", _handler),
    Route("GET", "/containers/json", _handler),
    Route("POST", "/containers/{name}/start", _handler),
    Route("GET", "/containers/{name}/attach/ws", _handler),
    Route("GET", "/images/{name}/json", _handler),
    Route("DELETE", "/images/{name}", _handler),
    Route("GET", "/volumes", _handler),
    Route("GET", "/volumes/{name}", _handler),
])


@pytest.mark.parametrize(("method", "path", "template", "name"), [
    ("GET", "/_ping", "/_ping", ""),
    ("GET", "/containers/json", "/containers/json", ""),
    ("POST", "/containers/web/start", "/containers/{name}/start", "web"),
    ("GET", "/containers/web/attach/ws", "/containers/{name}/attach/ws", "web"),
    ("GET", "/images/reg:5000/a/b:1/json", "/images/{name}/json", "reg:5000/a/b:1"),
    ("GET", "/images/json/json", "/images/{name}/json", "json"),
    ("DELETE", "/images/a/json", "/images/{name}", "a/json"),
    ("DELETE", "/images/a", "/images/{name}", "a"),
    ("GET", "/volumes", "/volumes", ""),
    ("GET", "/volumes/v", "/volumes/{name}", "v"),
])
def test_find(method: str, path: str, template: str, name: str) -> None:
    route, found = ROUTER.find(method, path)
    assert (route.template, found) == (template, name)


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/"), ("GET", ""), ("GET", "_ping"), ("POST", "/_ping"), ("HEAD", "/_ping"), ("GET", "/containers"),
    ("POST", "/containers//start"), ("POST", "/containers/start"), ("GET", "/volumes/"), ("GET", "/images/json"),
    ("DELETE", "/images/"), ("GET", "/_ping/"),
])
def test_what_is_not_there(method: str, path: str) -> None:
    with pytest.raises(NotFound, match="page not found"):
        ROUTER.find(method, path)


@pytest.mark.parametrize(("target", "version", "path"), [
    ("/_ping", MAX_VERSION, "/_ping"),
    ("/v1.24/_ping", (1, 24), "/_ping"),
    ("/v1.50/containers/json", (1, 50), "/containers/json"),
    ("/v1.41/images/a%2Fb/json", (1, 41), "/images/a/b/json"),
    ("/volumes/v1.41", MAX_VERSION, "/volumes/v1.41"),
    ("/version", MAX_VERSION, "/version"),
    ("/v1.41", (1, 41), ""),
])
def test_versions(target: str, version: tuple[int, int], path: str) -> None:
    assert split_version(target) == (version, path)


@pytest.mark.parametrize(("target", "message"), [
    ("/v1.23/_ping", "client version 1.23 is too old. Minimum supported API version is 1.24, "
                     "please upgrade your client to a newer version"),
    ("/v1.51/_ping", "client version 1.51 is too new. Maximum supported API version is 1.50"),
    ("/v2.0/_ping", "client version 2.0 is too new. Maximum supported API version is 1.50"),
    ("/v0/_ping", "client version 0 is too"),
    ("/v1.99999999999999999999/_ping", "client version 1.99999999999999999999 is too new"),
    ("/%ff", "the path is not UTF-8"),
])
def test_wrong_versions(target: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        split_version(target)
    assert str(caught.value).startswith(message)


def test_every_route_is_reachable() -> None:
    from sampan.api.routes import ROUTES

    router = Router(ROUTES)
    for route in ROUTES:
        path = route.template.replace("{name}", "x").replace("{id}", "x")
        assert router.find(route.method, path)[0] is route, route.template
