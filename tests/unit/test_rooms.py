"""Imports go down only: docs/architecture.md, "Rooms"."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "sampan"

MAY_IMPORT = {
    "errors": set(),
    "lean": set(),
    "linux": {"errors"},
    "oci": {"errors"},
    "jobs": {"linux", "errors"},
    "runtime": {"jobs", "oci", "linux", "errors"},
    "image": {"jobs", "oci", "linux", "errors"},
    "network": {"jobs", "linux", "errors"},
    "shim": {"runtime", "jobs", "oci", "linux", "errors"},
    "build": {"image", "jobs", "oci", "linux", "errors"},
    "insight": {"runtime", "oci", "linux", "errors"},
    "engine": {"errors", "linux", "oci", "jobs", "runtime", "image", "network", "shim", "build", "insight"},
    "api": {"engine", "shim", "linux", "errors"},
    "cli": {"linux", "errors", "insight"},
}
"""Room -> the rooms below it that it may use. Itself always."""

FOR_TYPES = {"linux": {"oci"}}
"""Room -> what it may name in annotations besides (`if TYPE_CHECKING`): the standards' words are everybody's."""

BESIDES = {
    "cli/commands/serve.py": {"api", "engine"},  # it is the engine; loaded for this one command
    "cli/build_context.py": {"build"},  # what .dockerignore leaves out is decided where the context is packed
}
"""File -> what it may import besides."""

EDGES = {
    "asyncio": {"jobs", "network", "shim", "build", "engine", "api", "commands/serve"},
    "h11": {"api", "cli", "image"},
    "urllib3": {"image"},
    "sqlite3": {"engine"},
}
"""Libraries that belong to some rooms alone. What forks containers has no event loop; the core knows no HTTP."""

FILES = sorted(SOURCE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    for_types: bool


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_bytes(), str(path))
    for_types = _within(tree, lambda node: isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            yield Import(module, node.lineno, id(node) in for_types)


def _within(tree: ast.AST, wanted: Callable[[ast.AST], bool]) -> set[int]:
    return {id(node) for outer in ast.walk(tree) if wanted(outer) for node in ast.walk(outer)}


def test_imports_go_down_only() -> None:
    wrong = []
    for path in FILES:
        room = _room(path)
        if room in ("__init__", "__main__"):
            continue
        assert room in MAY_IMPORT, f"{room}: a room that docs/architecture.md does not know"
        for found in _imports(path):
            parts = found.module.split(".")
            if parts[0] != "sampan" or len(parts) < 2 or parts[1] in (room, "lean", "__version__"):
                continue
            allowed = MAY_IMPORT[room] | BESIDES.get(str(path.relative_to(SOURCE)), set())
            allowed |= FOR_TYPES.get(room, set()) if found.for_types else set()
            if parts[1] not in allowed:
                wrong.append(f"{path.relative_to(SOURCE)}:{found.line}: {room} must not import {found.module}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_libraries_stay_in_their_rooms() -> None:
    wrong = []
    for path in FILES:
        name = str(path.relative_to(SOURCE).with_suffix(""))
        for found in _imports(path):
            library = found.module.split(".")[0]
            places = EDGES.get(library)
            if places is not None and _room(path) not in places and not any(name.endswith(place) for place in places):
                wrong.append(f"{name}:{found.line}: {library} is for {', '.join(sorted(places))}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_room_is_imported_in_a_circle() -> None:
    """What the table says has an order at all."""
    left = dict(MAY_IMPORT)
    while left:
        ready = [room for room, below in left.items() if not below & left.keys()]
        assert ready, f"a circle among {sorted(left)}"
        for room in ready:
            del left[room]
