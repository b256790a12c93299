"""`delete`: take away what is left of a container."""

from __future__ import annotations

from sampan.errors import NotFound
from sampan.runtime.command.arguments import BOOL, Command, Flag
from sampan.runtime.lifecycle import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "delete",
    "delete a container that has ended",
    "<container-id>",
    (Flag(("force", "f"), "kill it first if it runs; one that does not exist is no error", BOOL),),
)


def run(call: Call) -> int:
    force = call.parsed.flag("force")
    try:
        with call.entry() as entry:
            for warning in delete.delete(entry, force):
                call.log.warning(warning)
    except NotFound:
        if not force:
            raise
    return 0
