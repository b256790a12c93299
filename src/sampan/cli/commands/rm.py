"""sampan rm."""

from __future__ import annotations

import sys

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import EngineError
from sampan.cli.flags import Option

OPTIONS = (
    Option("-f", "--force", help="Force the removal of a running container (uses SIGKILL)"),
    Option("-l", "--link", help="Remove the specified link"),
    Option("-v", "--volumes", help="Remove anonymous volumes associated with the container"),
)


def run(invocation: Invocation) -> int:
    engine, values = invocation.engine, invocation.values
    query = {"v": values.on("volumes"), "link": values.on("link"), "force": values.on("force")}
    failed = 0
    for name in invocation.arguments:
        try:
            engine.delete(f"/containers/{name.strip('/')}", query)
            print(name, flush=True)
        except EngineError as error:
            print(f"Error response from daemon: {error}", file=sys.stderr)
            # With --force a container that is gone already is what was asked for.
            if not (values.on("force") and error.status == 404):
                failed = 1
    return failed


COMMAND = Command("CONTAINER [CONTAINER...]", "Remove one or more containers", run, OPTIONS, least=1)
