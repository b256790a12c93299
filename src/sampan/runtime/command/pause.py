"""`pause`: stop all processes of a container."""

from __future__ import annotations

from sampan.runtime.command.arguments import Command
from sampan.runtime.lifecycle import pausing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command("pause", "stop all processes of a container until `resume`", "<container-id>")


def run(call: Call) -> int:
    with call.entry() as entry:
        pausing.pause(entry)
    return 0
