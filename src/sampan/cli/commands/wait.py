"""sampan wait."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each


def run(invocation: Invocation) -> int:
    engine = invocation.engine

    def wait(name: str) -> str:
        return str(engine.post(f"/containers/{name}/wait")["StatusCode"])

    return for_each(invocation.arguments, wait)


COMMAND = Command(
    "CONTAINER [CONTAINER...]", "Block until one or more containers stop, then print their exit codes", run, least=1
)
