"""sampan rmi."""

from __future__ import annotations

import sys

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import EngineError
from sampan.cli.flags import LIST, Option

OPTIONS = (
    Option("-f", "--force", help="Force removal of the image"),
    Option("--no-prune", help="Do not delete untagged parents"),
    Option("--platform", kind=LIST, help="Remove only the given platform variant", hidden=True),
)


def run(invocation: Invocation) -> int:
    engine, values = invocation.engine, invocation.values
    query = {"force": values.on("force"), "noprune": values.on("no-prune")}
    failed = 0
    for name in invocation.arguments:
        try:
            for entry in engine.delete(f"/images/{name}", query) or ():
                for what, reference in entry.items():
                    print(f"{what}: {reference}", flush=True)
        except EngineError as error:
            print(f"Error response from daemon: {error}", file=sys.stderr)
            if not (values.on("force") and error.status == 404):
                failed = 1
    return failed


COMMAND = Command("IMAGE [IMAGE...]", "Remove one or more images", run, OPTIONS, least=1)
