"""sampan logs."""

from __future__ import annotations

import os

from sampan.cli.attach.stdcopy import SYSTEM_ERROR, Demultiplexer
from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed, UsageError
from sampan.cli.flags import STRING, Option
from sampan.cli.moment import api_time

OPTIONS = (
    Option("--details", help="Show extra details provided to logs"),
    Option("-f", "--follow", help="Follow log output"),
    Option("--since", kind=STRING,
           help='Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'),
    Option("-n", "--tail", kind=STRING, default="all", help="Number of lines to show from the end of the logs",
           shown_default='"all"'),
    Option("-t", "--timestamps", help="Show timestamps"),
    Option("--until", kind=STRING,
           help='Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'),
)


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    times: dict[str, object] = {}
    for key in ("since", "until"):
        if values.text(key):
            try:
                times[key] = api_time(values.text(key))
            except ValueError as error:
                raise UsageError(f'invalid value for "{key}": {error}', exit_code=1) from None
    name = invocation.arguments[0]
    tty = engine.get(f"/containers/{name}/json")["Config"]["Tty"]
    query = {
        "stdout": True, "stderr": True, "follow": values.on("follow"), "timestamps": values.on("timestamps"),
        "details": values.on("details"), "tail": values.text("tail"), **times,
    }
    response = engine.open("GET", f"/containers/{name}/logs", query)
    frames = Demultiplexer()
    for block in response.blocks():
        for stream, piece in frames.feed(block) if not tty else ((1, block),):
            if stream == SYSTEM_ERROR:
                raise CommandFailed(f"error from the engine in the log: {piece.decode('utf-8', 'replace')}")
            _write(stream, piece)
    return 0


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


COMMAND = Command("CONTAINER", "Fetch the logs of a container", run, OPTIONS, least=1, most=1)
