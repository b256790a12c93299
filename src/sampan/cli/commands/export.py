"""sampan export."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import STRING, Option
from sampan.cli.transfer import save

OPTIONS = (Option("-o", "--output", kind=STRING, help="Write to a file, instead of STDOUT"),)


def run(invocation: Invocation) -> int:
    response = invocation.engine.open("GET", f"/containers/{invocation.arguments[0]}/export")
    save(response, invocation.values.text("output"), "a file system")
    return 0


COMMAND = Command("CONTAINER", "Export a container's filesystem as a tar archive", run, OPTIONS, least=1, most=1)
