"""sampan network inspect."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import Option
from sampan.cli.formats import OBJECT_FORMAT
from sampan.cli.inspection import inspect_all

OPTIONS = (
    OBJECT_FORMAT,
    Option("-v", "--verbose", help="Verbose output for diagnostics"),
)


def run(invocation: Invocation) -> int:
    form = invocation.values.text("format")
    return inspect_all(invocation.engine, ["network"], invocation.arguments, form)


COMMAND = Command(
    "NETWORK [NETWORK...]", "Display detailed information on one or more networks", run, OPTIONS, least=1
)
