"""sampan volume rm."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each
from sampan.cli.flags import Option

OPTIONS = (Option("-f", "--force", help="Force the removal of one or more volumes"),)


def run(invocation: Invocation) -> int:
    engine = invocation.engine
    query = {"force": invocation.values.on("force")}
    return for_each(invocation.arguments, lambda name: engine.delete(f"/volumes/{name}", query))


COMMAND = Command(
    "VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.", run, OPTIONS, least=1,
)
