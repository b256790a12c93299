"""From method and path to a handler: dictionary look-ups, no expressions tried one after another.

A template has at most one variable, written `{…}`, and an image's name may hold slashes:
`/images/{name}/json`. The key of a route is (method, what precedes the variable, what follows it).
Of two routes with the same key the first one counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sampan.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.api.call import Call
    from sampan.api.response import Response

MIN_VERSION = (1, 24)
MAX_VERSION = (1, 50)
_VERSIONS = {f"v1.{minor}": (1, minor) for minor in range(MIN_VERSION[1], MAX_VERSION[1] + 1)}

Handler = Callable[["Call"], Awaitable["Response | None"]]


@dataclass(frozen=True, slots=True)
class Route:
    """`abandon`: a client that leaves ends the handler (it only reads or streams); otherwise it runs to its end."""

    method: str
    template: str
    handler: Handler
    abandon: bool = False


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[tuple[str, str], Route] = {}
        self._variable: dict[tuple[str, str, str], Route] = {}
        for route in routes:
            before, variable, rest = route.template.partition("/{")
            if variable:
                self._variable.setdefault((route.method, before, rest.partition("}")[2]), route)
            else:
                self._fixed.setdefault((route.method, before), route)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route and the variable's text ("" for none). `path` has no version. Raises NotFound."""
        if (route := self._fixed.get((method, path))) is not None:
            return route, ""
        end = path.find("/", 1)
        if end > 0:
            before, variable = path[:end], path[end + 1 :]
            for cut in _cuts(variable):
                if cut > 0 and (route := self._variable.get((method, before, variable[cut:]))) is not None:
                    return route, variable[:cut]
        raise NotFound("page not found")


def _cuts(variable: str) -> list[int]:
    """Where the variable may end: before the last two parts, before the last one, at the end."""
    last = variable.rfind("/")
    if last < 0:
        return [len(variable)]
    return [variable.rfind("/", 0, last), last, len(variable)]


def split_version(target: str) -> tuple[tuple[int, int], str]:
    """`/v1.41/info` → ((1, 41), "/info"); without a version the newest counts. Decodes percent signs.

    Raises InvalidArgument for a version outside of what we speak, with dockerd's words.
    """
    path = _decoded(target) if "%" in target else target
    if not path.startswith("/v"):
        return MAX_VERSION, path
    first, separator, rest = path[1:].partition("/")
    version = _VERSIONS.get(first)
    if version is not None:
        return version, separator + rest
    if not first[1:2].isdigit() or first.strip("v.0123456789"):
        return MAX_VERSION, path
    raise InvalidArgument(_refusal(first[1:]))


def _decoded(target: str) -> str:
    try:
        return unquote(target, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidArgument("the path is not UTF-8") from error


def _refusal(version: str) -> str:
    major, _, minor = version.partition(".")
    known = (int(major[:6]), int(minor[:6])) if major.isdigit() and minor.isdigit() else None
    if known is not None and known < MIN_VERSION:
        return (
            f"client version {version} is too old. Minimum supported API version is {_dotted(MIN_VERSION)}, "
            "please upgrade your client to a newer version"
        )
    return f"client version {version} is too new. Maximum supported API version is {_dotted(MAX_VERSION)}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
