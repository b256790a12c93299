"""sampan create."""

from __future__ import annotations

from sampan.cli.command import Command, Invocation
from sampan.cli.create.body import create_body
from sampan.cli.create.container import create_container
from sampan.cli.create.options import CREATE_OPTIONS


def run(invocation: Invocation) -> int:
    values = invocation.values
    image, *command = invocation.arguments
    body = create_body(values, image, command)
    print(create_container(invocation.engine, values, body))
    return 0


COMMAND = Command(
    "IMAGE [COMMAND] [ARG...]", "Create a new container", run, CREATE_OPTIONS, least=1, stop_at_argument=True
)
