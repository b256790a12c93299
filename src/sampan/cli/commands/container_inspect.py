"""sampan container inspect."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import Option
from sampan.cli.formats import OBJECT_FORMAT
from sampan.cli.inspection import inspect_all

OPTIONS = (
    OBJECT_FORMAT,
    Option("-s", "--size", help="Display total file sizes"),
)


def run(invocation: Invocation) -> int:
    form = invocation.values.text("format")
    return inspect_all(invocation.engine, ["container"], invocation.arguments, form, invocation.values.on("size"))


COMMAND = Command(
    "CONTAINER [CONTAINER...]", "Display detailed information on one or more containers", run, OPTIONS, least=1
)
