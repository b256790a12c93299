"""Attaching to a container, for run, start and attach."""

from __future__ import annotations

import os

from sampan.cli.attach.keys import DEFAULT_KEYS, parse_keys
from sampan.cli.attach.session import Session
from sampan.cli.attach.terminal import window_size
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed, EngineError
from sampan.cli.http import Response

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def check_tty(attach_stdin: bool, tty: bool) -> None:
    """A container with a terminal and an attached stdin needs a terminal here. Raises CommandFailed."""
    if attach_stdin and tty and not os.isatty(0):
        raise CommandFailed("the input device is not a TTY")


class Attachment:
    """A container's stream and what goes with it. `config` has the API's AttachStdin, … and Tty."""

    def __init__(
        self, engine: Engine, identifier: str, config: dict[str, Any], *, detach_keys: str, sig_proxy: bool,
        logs: bool = False,
    ) -> None:
        self._engine = engine
        self._id = identifier
        self._tty = bool(config["Tty"])
        keys = parse_keys(detach_keys or DEFAULT_KEYS)
        query = {
            "stream": True, "stdin": bool(config["AttachStdin"]), "stdout": bool(config["AttachStdout"]),
            "stderr": bool(config["AttachStderr"]), "logs": logs, "detachKeys": detach_keys or None,
        }
        stream = engine.hijack(f"/containers/{identifier}/attach", query)
        self.session = Session(
            stream, tty=self._tty, stdin=0 if config["AttachStdin"] else None, stdout=bool(config["AttachStdout"]),
            stderr=bool(config["AttachStderr"]), detach_keys=keys,
            on_signal=self._kill if sig_proxy else None,
            on_resize=self.resize if self._tty and os.isatty(1) else None,
        )

    def _kill(self, name: str) -> None:
        self._engine.post(f"/containers/{self._id}/kill", {"signal": name})

    def redraw(self) -> None:
        """Tells the size so that the program notices: a shell shows its prompt again only when the size changes."""
        self.resize(extra=1)
        self.resize()

    def resize(self, extra: int = 0) -> None:
        """Tells the engine how large the window is. A container that is not running (any more) does not mind."""
        height, width = window_size(1)
        if not (self._tty and height and width):
            return
        try:
            self._engine.post(f"/containers/{self._id}/resize", {"h": height + extra, "w": width + extra})
        except EngineError as error:
            if error.status not in (404, 409):
                raise


def begin_wait(engine: Engine, identifier: str, condition: str) -> Response:
    """Asks for the exit status before the start: the engine has the request when this returns."""
    return engine.open("POST", f"/containers/{identifier}/wait", {"condition": condition})


def finish_wait(response: Response) -> int:
    """The exit status. Raises CommandFailed when the engine could not tell."""
    import json

    answer = json.loads(response.read())
    response.close()
    error = answer.get("Error")
    if error:
        raise CommandFailed(f"error waiting for container: {error['Message']}", 125)
    return int(answer["StatusCode"])
