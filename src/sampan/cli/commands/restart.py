"""sampan restart."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each
from sampan.cli.flags import INT, STRING, Option

OPTIONS = (
    Option("-s", "--signal", kind=STRING, help="Signal to send to the container"),
    Option("-t", "--timeout", kind=INT, help="Seconds to wait before killing the container"),
    Option("--time", kind=INT, help="Seconds to wait before killing the container", hidden=True),
)


def run(invocation: Invocation) -> int:
    engine, values = invocation.engine, invocation.values
    query: dict[str, object] = {"signal": values.text("signal") or None}
    for key in ("time", "timeout"):
        if values.given(key):
            query["t"] = values.number(key)
    return for_each(invocation.arguments, lambda name: engine.post(f"/containers/{name}/restart", query))


COMMAND = Command("CONTAINER [CONTAINER...]", "Restart one or more containers", run, OPTIONS, least=1)
