"""sampan explain."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import textwrap
import time

from sampan.cli.address import open_socket
from sampan.cli.command import Command, Invocation
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed
from sampan.cli.findings import BOLD, DIM, RESET
from sampan.cli.flags import Option

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

    from sampan.insight.explain import Section

OPTIONS = (Option("--json", help="Print it as JSON"),)
NAME_WIDTH = 12


def _events(engine: Engine, identifier: str) -> list[dict[str, Any]]:
    """What happened to the container, as far as the engine remembers."""
    query = {"since": "0", "until": f"{time.time():.9f}", "filters": {"container": [identifier]}}
    return list(engine.messages(engine.open("GET", "/events", query)))


def _engine_pid(engine: Engine) -> int:
    """Who answers at the socket, in our pid namespace; 0 when that cannot be said."""
    if engine.address.family != "unix":
        return 0
    with open_socket(engine.address) as sock:
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def show(sections: list[Section]) -> None:
    """Headings, names, text; wrapped to the terminal."""
    colour = os.isatty(1) and not os.environ.get("NO_COLOR")
    columns = max(shutil.get_terminal_size().columns, 60)
    for position, section in enumerate(sections):
        title = f"{BOLD}{section.title}{RESET}" if colour else section.title
        print(("\n" if position else "") + title)
        width = max([NAME_WIDTH, *(len(name) for name, _ in section.lines)])
        for name, text in section.lines:
            plain = not any(other for other, _ in section.lines)
            indent = 2 if plain else width + 4
            lines = textwrap.wrap(text, columns - indent, break_long_words=False, break_on_hyphens=False) or [""]
            head = "  " if plain else f"  {name.ljust(width)}  "
            print(f"{DIM}{head}{RESET}{lines[0]}" if colour else head + lines[0])
            for line in lines[1:]:
                print(" " * indent + line)


def run(invocation: Invocation) -> int:
    engine = invocation.engine
    details = engine.get(f"/containers/{invocation.arguments[0]}/json")
    from sampan.insight.explain import explain

    try:
        sections = explain(details, _events(engine, details["Id"]), _engine_pid(engine))
    except PermissionError as error:
        raise CommandFailed(f"{error.filename}: permission denied: run as root") from None
    if invocation.values.on("json"):
        print(json.dumps([section.as_dict() for section in sections], indent=2, ensure_ascii=False))
    else:
        show(sections)
    return 0


COMMAND = Command(
    "CONTAINER", "Show what a container is made of, why it was killed, who throttles it", run, OPTIONS, least=1, most=1,
    detail="Reads /proc and the control groups of a running container; for one that has ended it says why.",
)
