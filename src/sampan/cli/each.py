"""Doing one thing to each of several containers or images: one failure does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from sampan.cli.failure import EngineError


def for_each(names: Sequence[str], action: Callable[[str], object]) -> int:
    """Calls `action` for every name; prints the name, or what it returned when that is text. 1 when any failed."""
    failed = 0
    for name in names:
        try:
            outcome = action(name)
        except EngineError as error:
            sys.stdout.flush()
            print(f"Error response from daemon: {error}", file=sys.stderr)
            failed = 1
        else:
            print(outcome if isinstance(outcome, str) else name, flush=True)
    return failed


def warn(messages: Sequence[str] | None) -> None:
    """Prints the warnings that came with an answer."""
    for message in messages or ():
        print(f"WARNING: {message}", file=sys.stderr)
