"""sampan inspect: containers, images, networks, volumes, by name or id."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import UsageError
from sampan.cli.flags import STRING, Option
from sampan.cli.formats import OBJECT_FORMAT
from sampan.cli.inspection import PATHS, inspect_all

OPTIONS = (
    OBJECT_FORMAT,
    Option("-s", "--size", help="Display total file sizes if the type is container"),
    Option("--type", kind=STRING, help="Only inspect objects of the given type (container, image, network, volume)"),
)


def run(invocation: Invocation) -> int:
    values = invocation.values
    wanted = values.text("type")
    if wanted and wanted not in PATHS:
        raise UsageError(f'unknown type: "{wanted}": must be one of {", ".join(PATHS)}')
    kinds = [wanted] if wanted else list(PATHS)
    return inspect_all(invocation.engine, kinds, invocation.arguments, values.text("format"), values.on("size"))


COMMAND = Command(
    "NAME|ID [NAME|ID...]", "Return low-level information on containers, images, networks and volumes", run, OPTIONS,
    least=1,
)
