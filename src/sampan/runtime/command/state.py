"""`state`: what a container is, as JSON."""

from __future__ import annotations

from sampan.runtime.command import layout
from sampan.runtime.command.arguments import Command
from sampan.runtime.lifecycle import view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command("state", "print the state of a container as JSON", "<container-id>")


def run(call: Call) -> int:
    with call.entry() as entry:
        call.write(layout.indented(view.of(entry), "  "))
    return 0
