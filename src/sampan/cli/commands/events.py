"""sampan events."""

from __future__ import annotations

import time

from sampan.cli.command import Command, Invocation
from sampan.cli.failure import UsageError
from sampan.cli.filters import FILTER, to_query
from sampan.cli.flags import STRING, Option
from sampan.cli.formats import OBJECT_FORMAT
from sampan.cli.moment import api_time

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    FILTER,
    Option("--format", kind=STRING, help=OBJECT_FORMAT.help),
    Option("--since", kind=STRING, help="Show all events created since timestamp"),
    Option("--until", kind=STRING, help="Stream events until this timestamp"),
)


def event_line(event: dict[str, Any]) -> str:
    """`2026-11-23T18:48:02.778052299Z container start 9016… (image=busybox, name=web)`."""
    nanoseconds = event.get("timeNano") or event["time"] * 1_000_000_000
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}"
    stamp += "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    parts = [stamp, event.get("Type") or "", event.get("Action") or event.get("status") or "", actor.get("ID") or ""]
    return " ".join(part for part in parts if part) + (f" ({attributes})" if attributes else "")


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    query: dict[str, object] = {"filters": to_query(values.texts("filter"))}
    for key in ("since", "until"):
        if values.text(key):
            try:
                query[key] = api_time(values.text(key))
            except ValueError as error:
                raise UsageError(f'invalid value for "{key}": {error}', exit_code=1) from None
    form = values.text("format")
    render = event_line
    if form:
        from sampan.cli.template import Template

        template = Template("{{json .}}" if form == "json" else form)

        def render(event: dict[str, Any]) -> str:
            return template.render(template_view(event))

    for event in engine.messages(engine.open("GET", "/events", query)):
        print(render(event), flush=True)
    return 0


def template_view(event: dict[str, Any]) -> dict[str, Any]:
    """An event under the names that Docker's templates use, besides its own."""
    names = {"status": "Status", "id": "ID", "from": "From", "time": "Time", "timeNano": "TimeNano", "scope": "Scope"}
    return {**{new: event.get(old) for old, new in names.items()}, **event}


COMMAND = Command("", "Get real time events from the engine", run, OPTIONS, most=0)
