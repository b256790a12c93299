"""sampan unpause."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each


def run(invocation: Invocation) -> int:
    engine = invocation.engine
    return for_each(invocation.arguments, lambda name: engine.post(f"/containers/{name}/unpause"))


COMMAND = Command("CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", run, least=1)
