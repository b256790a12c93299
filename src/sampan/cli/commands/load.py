"""sampan load."""

from __future__ import annotations

import os
import sys

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed
from sampan.cli.flags import STRING, Option
from sampan.cli.transfer import open_input, read_blocks

OPTIONS = (
    Option("-i", "--input", kind=STRING, help="Read from tar archive file, instead of STDIN"),
    Option("--platform", kind=STRING, help="Load only the given platform variant", hidden=True),
    Option("-q", "--quiet", help="Suppress the load output"),
)


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    path = values.text("input") or "-"
    if path == "-" and os.isatty(0):
        raise CommandFailed("requested load from stdin, but stdin is empty: use -i FILE, or redirect the input")
    source = open_input(path)
    try:
        response = engine.open(
            "POST", "/images/load", {"quiet": values.on("quiet") or not os.isatty(1)}, read_blocks(source),
            {"Content-Type": "application/x-tar"},
        )
        for message in engine.messages(response):
            if "error" in message:
                raise CommandFailed(str(message["error"]))
            if "stream" in message:
                sys.stdout.write(message["stream"])
    finally:
        if source:
            os.close(source)
    return 0


COMMAND = Command("", "Load an image from a tar archive or STDIN", run, OPTIONS, most=0)
