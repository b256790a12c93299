"""sampan attach."""

from __future__ import annotations

from sampan.cli.attach.container import Attachment, begin_wait, check_tty, finish_wait
from sampan.cli.attach.session import Detached
from sampan.cli.command import Command, Invocation
from sampan.cli.failure import CommandFailed, Quit
from sampan.cli.flags import STRING, Option

OPTIONS = (
    Option("--detach-keys", kind=STRING, help="Override the key sequence for detaching a container"),
    Option("--no-stdin", help="Do not attach STDIN"),
    Option("--sig-proxy", default=True, help="Proxy all received signals to the process", shown_default="true"),
)


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    details = engine.get(f"/containers/{invocation.arguments[0]}/json")
    state, config = details["State"], details["Config"]
    if not state["Running"]:
        raise CommandFailed("cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandFailed("cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandFailed("cannot attach to a restarting container, wait until it is running")
    attach_stdin = not values.on("no-stdin") and config["OpenStdin"]
    check_tty(attach_stdin, config["Tty"])
    wanted = {"Tty": config["Tty"], "AttachStdin": attach_stdin, "AttachStdout": True, "AttachStderr": True}
    wait = begin_wait(engine, details["Id"], "not-running")
    attachment = Attachment(
        engine, details["Id"], wanted, detach_keys=values.text("detach-keys"), sig_proxy=values.on("sig-proxy")
    )
    attachment.redraw()
    try:
        attachment.session.run()
    except Detached:
        raise Quit(1, "read escape sequence") from None
    return finish_wait(wait)


COMMAND = Command(
    "CONTAINER", "Attach local standard input, output, and error streams to a running container", run, OPTIONS,
    least=1, most=1,
)
