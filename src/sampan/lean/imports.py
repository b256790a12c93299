"""The import system of a process that becomes a container."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import BuiltinImporter, FrozenImporter
else:
    from _frozen_importlib import BuiltinImporter, FrozenImporter


def without_files() -> None:
    """From here on only what is in the interpreter itself, or imported already: a file could be the container's."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
