"""sampan volume prune."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import Option
from sampan.cli.prune import FORCE, PRUNE_FILTER, confirm, prune, reclaimed, report

ALL = Option("-a", "--all", help="Remove all unused volumes, not just anonymous ones")


def run(invocation: Invocation) -> int:
    everything = invocation.values.on("all")
    which = "all" if everything else "anonymous"
    confirm(invocation, f"This will remove {which} local volumes not used by at least one container.")
    answer = prune(invocation, "volumes", {"all": ["true"]} if everything else None)
    report("Deleted Volumes", answer.get("VolumesDeleted"))
    reclaimed(answer)
    return 0


COMMAND = Command("", "Remove unused local volumes", run, (ALL, PRUNE_FILTER, FORCE), most=0)
