"""sampan builder prune."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.filters import to_query
from sampan.cli.flags import BYTES, Option
from sampan.cli.prune import FORCE, PRUNE_FILTER, confirm, reclaimed, report

OPTIONS = (
    Option("-a", "--all", help="Remove all unused build cache, not just dangling ones"),
    PRUNE_FILTER,
    FORCE,
    Option("--keep-storage", kind=BYTES, help="Amount of disk space to keep for cache"),
)


def run(invocation: Invocation) -> int:
    values = invocation.values
    confirm(invocation, f"This will remove all {'' if values.on('all') else 'dangling '}build cache.")
    query = {
        "all": values.on("all"),
        "keep-storage": values.number("keep-storage") or None,
        "filters": to_query(values.texts("filter")),
    }
    answer = invocation.engine.post("/build/prune", query) or {}
    report("Deleted build cache objects", answer.get("CachesDeleted"))
    reclaimed(answer)
    return 0


COMMAND = Command("", "Remove build cache", run, OPTIONS, most=0)
