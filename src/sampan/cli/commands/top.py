"""sampan top: the container's processes with the host's process ids."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.listing import format_table


def run(invocation: Invocation) -> int:
    name, *arguments = invocation.arguments
    query = {"ps_args": " ".join(arguments) or None}
    answer = invocation.engine.get(f"/containers/{name}/top", query)
    lines = [answer["Titles"], *(answer["Processes"] or ())]
    print(format_table(lines, minimum=20, padding=3), end="")
    return 0


COMMAND = Command(
    "CONTAINER [ps OPTIONS]", "Display the running processes of a container", run, least=1, stop_at_argument=True
)
