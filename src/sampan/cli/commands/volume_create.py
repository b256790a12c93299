"""sampan volume create."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import UsageError
from sampan.cli.flags import LIST, STRING, Option

OPTIONS = (
    Option("-d", "--driver", kind=STRING, default="local", help="Specify volume driver name", shown_default='"local"'),
    Option("--label", kind=LIST, help="Set metadata for a volume"),
    Option("--name", kind=STRING, help="Specify volume name", hidden=True),
    Option("-o", "--opt", kind=LIST, help="Set driver specific options"),
)


def _pairs(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def run(invocation: Invocation) -> int:
    values = invocation.values
    name = invocation.arguments[0] if invocation.arguments else values.text("name")
    if invocation.arguments and values.given("name"):
        raise UsageError("conflicting options: the volume's name is given both by --name and as an argument")
    body = {
        "Name": name, "Driver": values.text("driver"), "DriverOpts": _pairs(values.texts("opt")),
        "Labels": _pairs(values.texts("label")),
    }
    print(invocation.engine.post("/volumes/create", json_body=body)["Name"])
    return 0


COMMAND = Command("[VOLUME]", "Create a volume", run, OPTIONS, most=1)
