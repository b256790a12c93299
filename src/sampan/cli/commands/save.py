"""sampan save."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.flags import LIST, STRING, Option
from sampan.cli.transfer import save

OPTIONS = (
    Option("-o", "--output", kind=STRING, help="Write to a file, instead of STDOUT"),
    Option("--platform", kind=LIST, help="Save only the given platform variant", hidden=True),
)


def run(invocation: Invocation) -> int:
    response = invocation.engine.open("GET", "/images/get", {"names": invocation.arguments})
    save(response, invocation.values.text("output"), "an image")
    return 0


COMMAND = Command(
    "IMAGE [IMAGE...]", "Save one or more images to a tar archive (streamed to STDOUT by default)", run, OPTIONS,
    least=1,
)
