"""What the prune commands share: the question, the call, the report."""

from __future__ import annotations

import sys

from sampan.cli.command import Invocation
from sampan.cli.failure import CommandFailed
from sampan.cli.filters import to_query
from sampan.cli.flags import LIST, Option
from sampan.cli.units import decimal_size

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

FORCE = Option("-f", "--force", help="Do not prompt for confirmation")
PRUNE_FILTER = Option("--filter", kind=LIST, help='Provide filter values (e.g. "until=<timestamp>")')


def confirm(invocation: Invocation, warning: str) -> None:
    """Asks on the terminal, unless --force. Raises CommandFailed when the answer is not y."""
    if invocation.values.on("force"):
        return
    print(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed("nothing was removed")


def prune(invocation: Invocation, kind: str, filters: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Calls /KIND/prune with the command's own filters and `filters`."""
    given = to_query(invocation.values.texts("filter")) or {}
    merged = {**given, **(filters or {})}
    answer = invocation.engine.post(f"/{kind}/prune", {"filters": merged or None})
    return answer if isinstance(answer, dict) else {}


def report(title: str, names: list[str] | None) -> None:
    """A block of names, if any."""
    if names:
        print(f"{title}:")
        for name in names:
            print(name)
        print()


def report_images(answer: dict[str, Any]) -> None:
    """Untagged and deleted images."""
    entries = [f"{what.lower()}: {name}" for entry in answer.get("ImagesDeleted") or () for what, name in entry.items()]
    report("Deleted Images", entries)


def reclaimed(*answers: dict[str, Any]) -> None:
    """The closing line."""
    print("Total reclaimed space:", decimal_size(sum(answer.get("SpaceReclaimed") or 0 for answer in answers)))
