"""`start`: let the program of a created container run."""

from __future__ import annotations

from sampan.runtime.command import creating
from sampan.runtime.command.arguments import Command
from sampan.runtime.lifecycle import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command("start", "run the program of a created container", "<container-id>")


def run(call: Call) -> int:
    with call.entry() as entry:
        entry.lock()
        relay = creating.listen(entry)
        for warning in start.start(entry):
            call.log.warning(warning)
        creating.await_ready(call, entry, relay)
    return 0
