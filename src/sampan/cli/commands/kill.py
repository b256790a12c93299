"""sampan kill."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each
from sampan.cli.flags import STRING, Option

OPTIONS = (Option("-s", "--signal", kind=STRING, help="Signal to send to the container"),)


def run(invocation: Invocation) -> int:
    engine = invocation.engine
    query = {"signal": invocation.values.text("signal") or None}
    return for_each(invocation.arguments, lambda name: engine.post(f"/containers/{name}/kill", query))


COMMAND = Command("CONTAINER [CONTAINER...]", "Kill one or more running containers", run, OPTIONS, least=1)
