"""sampan diff."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation

KINDS = ("C", "A", "D")


def run(invocation: Invocation) -> int:
    for change in invocation.engine.get(f"/containers/{invocation.arguments[0]}/changes") or ():
        print(KINDS[change["Kind"]], change["Path"])
    return 0


COMMAND = Command(
    "CONTAINER", "Inspect changes to files or directories on a container's filesystem", run, least=1, most=1
)
