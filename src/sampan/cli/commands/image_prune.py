"""sampan image prune."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import Option
from sampan.cli.prune import FORCE, PRUNE_FILTER, confirm, prune, reclaimed, report_images

ALL = Option("-a", "--all", help="Remove all unused images, not just dangling ones")


def run(invocation: Invocation) -> int:
    everything = invocation.values.on("all")
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    confirm(invocation, f"This will remove {what}.")
    answer = prune(invocation, "images", {"dangling": ["false" if everything else "true"]})
    report_images(answer)
    reclaimed(answer)
    return 0


COMMAND = Command("", "Remove unused images", run, (ALL, PRUNE_FILTER, FORCE), most=0)
