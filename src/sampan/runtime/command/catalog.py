"""The commands by name and where each is: nothing of a command is loaded until it is the one asked for."""

from __future__ import annotations

MODULES = {
    "create": "create",
    "delete": "delete",
    "events": "events",
    "exec": "exec_",
    "features": "features",
    "kill": "kill",
    "list": "list_",
    "pause": "pause",
    "ps": "ps",
    "resume": "resume",
    "run": "run",
    "spec": "spec",
    "start": "start",
    "state": "state",
    "update": "update",
}
"""Command → module of this package, with `COMMAND` (arguments.Command) and `run(call) -> exit code`."""

UNSUPPORTED = ("checkpoint", "restore")
"""runc's commands that need CRIU."""
