"""`create`: a container whose program waits for `start`."""

from __future__ import annotations

from sampan.runtime.command import creating
from sampan.runtime.command.arguments import Command
from sampan.runtime.lifecycle import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "create",
    "make a container",
    "<container-id>",
    creating.FLAGS,
    description=(
        "Makes the container of a bundle: a directory with a config.json and a root file system.\n"
        "Its program does not run before `start`."
    ),
)


def run(call: Call) -> int:
    created = create.create(call.registry(), creating.options(call))
    try:
        creating.tell(call, created)
        created.wait()
    finally:
        created.close()
    return 0
