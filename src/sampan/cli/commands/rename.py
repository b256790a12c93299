"""sampan rename."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation


def run(invocation: Invocation) -> int:
    old, new = invocation.arguments
    invocation.engine.post(f"/containers/{old}/rename", {"name": new})
    return 0


COMMAND = Command("CONTAINER NEW_NAME", "Rename a container", run, least=2, most=2)
