"""sampan exec."""

from __future__ import annotations

import os

from sampan.cli.attach.container import check_tty
from sampan.cli.attach.keys import DEFAULT_KEYS, parse_keys
from sampan.cli.attach.session import Detached, Session
from sampan.cli.attach.terminal import window_size
from sampan.cli.command import Command, Invocation
from sampan.cli.create.environment import check_env, environment
from sampan.cli.create.start_failure import start_exit_code
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed, EngineError, Quit
from sampan.cli.flags import LIST, STRING, Option, Values, checked_list

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    Option("-d", "--detach", help="Detached mode: run command in the background"),
    Option("--detach-keys", kind=STRING, help="Override the key sequence for detaching a container"),
    Option("-e", "--env", kind=checked_list("list", check_env), help="Set environment variables"),
    Option("--env-file", kind=LIST, help="Read in a file of environment variables"),
    Option("-i", "--interactive", help="Keep STDIN open even if not attached"),
    Option("--privileged", help="Give extended privileges to the command"),
    Option("-t", "--tty", help="Allocate a pseudo-TTY"),
    Option("-u", "--user", kind=STRING, help='Username or UID (format: "<name|uid>[:<group|gid>]")'),
    Option("-w", "--workdir", kind=STRING, help="Working directory inside the container"),
)


def exec_body(values: Values, command: list[str]) -> dict[str, Any]:
    """The exec create request: what the docker command sends."""
    attached = not values.on("detach")
    size = window_size(1)
    body: dict[str, Any] = {
        "User": values.text("user"), "Privileged": values.on("privileged"), "Tty": values.on("tty"),
        "AttachStdin": attached and values.on("interactive"), "AttachStderr": attached, "AttachStdout": attached,
        "DetachKeys": values.text("detach-keys"),
        "Env": environment(values.texts("env"), values.texts("env-file")) or None,
        "WorkingDir": values.text("workdir"), "Cmd": command,
    }
    if attached and values.on("tty") and size[0]:
        body["ConsoleSize"] = list(size)
    return body


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    name, *command = invocation.arguments
    keys = parse_keys(values.text("detach-keys") or DEFAULT_KEYS)
    body = exec_body(values, command)
    check_tty(body["AttachStdin"], body["Tty"])
    identifier = engine.post(f"/containers/{name}/exec", json_body=body)["Id"]
    try:
        if values.on("detach"):
            engine.post(f"/exec/{identifier}/start", json_body={"Detach": True, "Tty": body["Tty"]})
            return 0
        return _attached(engine, identifier, body, keys)
    except EngineError as error:
        code = start_exit_code(error)
        raise CommandFailed(f"Error response from daemon: {error}", code if code > 125 else 1) from None


def _attached(engine: Engine, identifier: str, body: dict[str, Any], keys: bytes) -> int:
    shows_tty = body["Tty"] and os.isatty(1)

    def resize() -> None:
        height, width = window_size(1)
        try:
            if height and width:
                engine.post(f"/exec/{identifier}/resize", {"h": height, "w": width})
        except EngineError as error:
            if error.status not in (400, 404, 409, 500):  # not started yet or over: neither needs a size
                raise

    start = {"Detach": False, "Tty": body["Tty"]}
    if "ConsoleSize" in body:
        start["ConsoleSize"] = body["ConsoleSize"]
    stream = engine.hijack(f"/exec/{identifier}/start", json_body=start)
    if shows_tty:
        resize()
    session = Session(
        stream, tty=body["Tty"], stdin=0 if body["AttachStdin"] else None, detach_keys=keys,
        on_resize=resize if shows_tty else None,
    )
    try:
        session.run()
    except Detached:
        raise Quit(1, "read escape sequence") from None
    return int(engine.get(f"/exec/{identifier}/json")["ExitCode"] or 0)


COMMAND = Command(
    "CONTAINER COMMAND [ARG...]", "Execute a command in a running container", run, OPTIONS,
    least=2, stop_at_argument=True,
)
