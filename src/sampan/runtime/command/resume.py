"""`resume`: let the processes of a paused container go on."""

from __future__ import annotations

from sampan.runtime.command.arguments import Command
from sampan.runtime.lifecycle import pausing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command("resume", "let all processes of a paused container go on", "<container-id>")


def run(call: Call) -> int:
    with call.entry() as entry:
        pausing.resume(entry)
    return 0
