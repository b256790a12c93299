"""sampan tag."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.reference import split_reference


def run(invocation: Invocation) -> int:
    source, target = invocation.arguments
    name, tag = split_reference(target)
    invocation.engine.post(f"/images/{source}/tag", {"repo": name, "tag": tag or None})
    return 0


COMMAND = Command(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", run,
    least=2, most=2,
)
