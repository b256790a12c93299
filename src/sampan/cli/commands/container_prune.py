"""sampan container prune."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.prune import FORCE, PRUNE_FILTER, confirm, prune, reclaimed, report


def run(invocation: Invocation) -> int:
    confirm(invocation, "This will remove all stopped containers.")
    answer = prune(invocation, "containers")
    report("Deleted Containers", answer.get("ContainersDeleted"))
    reclaimed(answer)
    return 0


COMMAND = Command("", "Remove all stopped containers", run, (PRUNE_FILTER, FORCE), most=0)
