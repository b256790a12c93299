"""`features`: what this runtime can do (runtime-spec, features.md)."""

from __future__ import annotations

from sampan.runtime.command import layout
from sampan.runtime.command.arguments import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "features",
    "print as JSON what this runtime can do",
    "",
    least=0,
    most=0,
)


def run(call: Call) -> int:
    from sampan.runtime.features import document  # allowed: looks at the host; only here

    call.write(layout.indented(document(), "    ") + "\n")
    return 0
