"""Looking objects up for the inspect commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sampan.cli.engine import Engine
from sampan.cli.failure import EngineError
from sampan.cli.formats import render_objects

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

PATHS = {
    "container": "/containers/{}/json", "image": "/images/{}/json", "network": "/networks/{}", "volume": "/volumes/{}",
}


def look_up(engine: Engine, kinds: Sequence[str], name: str, size: bool = False) -> Any:
    """The first object of these kinds with that name or id. Raises EngineError(404, …) when there is none."""
    for kind in kinds:
        try:
            return engine.get(PATHS[kind].format(name), {"size": True} if size and kind == "container" else None)
        except EngineError as error:
            if error.status != 404 or len(kinds) == 1:
                raise
    raise EngineError(404, f"No such object: {name}")


def inspect_all(engine: Engine, kinds: Sequence[str], names: Sequence[str], form: str, size: bool = False) -> int:
    """Prints what is found, and an error for what is not; 1 when anything was not found."""
    found, errors = [], []
    for name in names:
        try:
            found.append(look_up(engine, kinds, name, size))
        except EngineError as error:
            errors.append(f"Error: {error}" if len(kinds) > 1 else f"Error response from daemon: {error}")
    print(render_objects(form, found), end="", flush=True)
    for text in errors:
        print(text, file=sys.stderr)
    return 1 if errors else 0
