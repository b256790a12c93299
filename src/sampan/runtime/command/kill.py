"""`kill`: a signal for a container's process 1."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux import signals
from sampan.runtime.command.arguments import BOOL, Command, Flag
from sampan.runtime.lifecycle import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "kill",
    "send a signal to a container",
    "<container-id> [signal]",
    (Flag(("all", "a"), "to all of its processes, also when process 1 has ended", BOOL),),
    least=1,
    most=2,
    description="The signal is a name (KILL, SIGKILL, SIGRTMIN+3) or a number; SIGTERM when it is left out.",
)


def run(call: Call) -> int:
    name = call.parsed.arguments[1] if len(call.parsed.arguments) > 1 else "SIGTERM"
    with call.entry() as entry:
        kill.kill(entry, parse_signal(name), call.parsed.flag("all"))
    return 0


def parse_signal(text: str) -> int:
    """The number of a signal by name or number. Raises InvalidArgument in runc's words."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        if 0 <= int(text) <= 64:
            return int(text)
        raise InvalidArgument(f'unknown signal "{text}"')
    name, sign, offset = text.upper().partition("+")
    if not sign:
        name, sign, offset = text.upper().partition("-")
    known = signals.numbers()
    number = known.get(name if name.startswith("SIG") else f"SIG{name}")
    if number is not None and not sign:
        return number
    if number is not None and name.endswith(("RTMIN", "RTMAX")) and offset.isascii() and offset.isdigit():
        found = number + int(offset[:3]) if sign == "+" else number - int(offset[:3])
        if known["SIGRTMIN"] <= found <= known["SIGRTMAX"]:
            return found
    raise InvalidArgument(f'unknown signal "{text}"')
