"""sampan volume inspect."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.formats import OBJECT_FORMAT
from sampan.cli.inspection import inspect_all

OPTIONS = (OBJECT_FORMAT,)


def run(invocation: Invocation) -> int:
    form = invocation.values.text("format")
    return inspect_all(invocation.engine, ["volume"], invocation.arguments, form)


COMMAND = Command(
    "VOLUME [VOLUME...]", "Display detailed information on one or more volumes", run, OPTIONS, least=1
)
