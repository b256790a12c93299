"""sampan run: create, attach, start, wait."""

from __future__ import annotations

import sys

from sampan.cli.attach.container import Attachment, begin_wait, check_tty, finish_wait
from sampan.cli.attach.keys import DEFAULT_KEYS, parse_keys
from sampan.cli.attach.session import Detached
from sampan.cli.attach.terminal import window_size
from sampan.cli.command import Command, Invocation
from sampan.cli.create.body import create_body
from sampan.cli.create.container import create_container
from sampan.cli.create.options import CREATE_OPTIONS
from sampan.cli.create.start_failure import start_exit_code
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed, EngineError
from sampan.cli.flags import STRING, Option, Values
from sampan.cli.http import Response

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

RUN_OPTIONS = (
    Option("-d", "--detach", help="Run container in background and print container ID"),
    Option("--detach-keys", kind=STRING, help="Override the key sequence for detaching a container"),
    Option("--sig-proxy", default=True, help="Proxy received signals to the process", shown_default="true"),
)


def run_body(values: Values, image: str, command: list[str]) -> dict[str, Any]:
    """The create request of `run`. Raises CommandFailed."""
    size = window_size(1) if values.on("tty") else (0, 0)
    body = create_body(values, image, command, size)
    if values.on("detach"):
        if values.given("attach"):
            raise CommandFailed("conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
    return body


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    image, *command = invocation.arguments
    parse_keys(values.text("detach-keys") or DEFAULT_KEYS)
    body = run_body(values, image, command)
    if not values.on("detach"):
        check_tty(body["AttachStdin"], body["Tty"])
    identifier = create_container(engine, values, body)
    attached = body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]
    if not attached:
        return _run_detached(engine, identifier, values)
    return _run_attached(engine, identifier, values, body)


def _start(engine: Engine, identifier: str) -> None:
    """Raises CommandFailed with Docker's exit code."""
    try:
        engine.post(f"/containers/{identifier}/start")
    except EngineError as error:
        raise CommandFailed(f"Error response from daemon: {error}", start_exit_code(error)) from None


def _run_detached(engine: Engine, identifier: str, values: Values) -> int:
    _start(engine, identifier)
    print(identifier, flush=True)
    return 0


def _run_attached(engine: Engine, identifier: str, values: Values, body: dict[str, Any]) -> int:
    attachment = Attachment(
        engine, identifier, body, detach_keys=values.text("detach-keys"), sig_proxy=values.on("sig-proxy")
    )
    removes = bool(body["HostConfig"]["AutoRemove"])
    wait = begin_wait(engine, identifier, "removed" if removes else "next-exit")
    try:
        _start(engine, identifier)
    except CommandFailed:
        if removes:
            _await_removal(wait)
        raise
    attachment.resize()
    try:
        attachment.session.run()
    except Detached:
        return 0
    finally:
        sys.stdout.flush()
    return finish_wait(wait)


def _await_removal(wait: Response) -> None:
    """What could not start is removed; the command ends when it is."""
    try:
        finish_wait(wait)
    except CommandFailed:
        pass  # the start's own error says more


COMMAND = Command(
    "IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image", run, (*CREATE_OPTIONS, *RUN_OPTIONS),
    least=1, stop_at_argument=True,
)
