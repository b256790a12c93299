"""`events`: what a container uses and when its memory ran out, one JSON object a line."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.runtime.command.arguments import BOOL, Command, Flag, UsageError
from sampan.runtime.lifecycle import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call

COMMAND = Command(
    "events",
    "show what a container uses and when its memory ran out",
    "<container-id>",
    (
        Flag(("interval",), "time between two stats: 500ms, 5s, 1m30s", default="5s"),
        Flag(("stats",), "show the stats once and return", BOOL),
    ),
)

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = frozenset("0123456789.")


def run(call: Call) -> int:
    interval = seconds(call.parsed.text("interval"))
    if interval <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    with call.entry() as entry:
        if call.parsed.flag("stats"):
            call.write_json(events.current(entry))
            return 0
        for event in events.follow(entry, interval):
            call.write_json(event)
    return 0


def seconds(text: str) -> float:
    """A duration as Go writes it: "1m30s". Raises UsageError."""
    left = text[1:] if text[:1] in ("-", "+") else text
    total = 0.0
    if not left or len(left) > 64:
        raise UsageError(f'invalid value "{text}" for flag -interval: parse error')
    while left and left != "0":
        digits = next((at for at, c in enumerate(left) if c not in _NUMBER), len(left))
        end = next((at for at, c in enumerate(left[digits:], digits) if c in _NUMBER), len(left))
        number, unit = left[:digits], left[digits:end]
        if unit not in _UNITS or number.count(".") > 1 or not number.strip("."):
            raise UsageError(f'invalid value "{text}" for flag -interval: parse error')
        total += float(number) * _UNITS[unit]
        left = left[end:]
    if total * 1e9 >= 2**63:  # Go counts nanoseconds
        raise UsageError(f'invalid value "{text}" for flag -interval: parse error')
    return -total if text.startswith("-") else total
