"""sampan start."""

from __future__ import annotations

from sampan.cli.attach.container import Attachment, begin_wait, check_tty, finish_wait
from sampan.cli.attach.session import Detached
from sampan.cli.command import Command, Invocation
from sampan.cli.each import for_each
from sampan.cli.failure import CommandFailed
from sampan.cli.flags import STRING, Option

OPTIONS = (
    Option("-a", "--attach", help="Attach STDOUT/STDERR and forward signals"),
    Option("--detach-keys", kind=STRING, help="Override the key sequence for detaching a container"),
    Option("-i", "--interactive", help="Attach container's STDIN"),
)


def run(invocation: Invocation) -> int:
    values, engine = invocation.values, invocation.engine
    if not (values.on("attach") or values.on("interactive")):
        return for_each(invocation.arguments, lambda name: engine.post(f"/containers/{name}/start"))
    if len(invocation.arguments) > 1:
        raise CommandFailed("you cannot start and attach multiple containers at once")
    details = engine.get(f"/containers/{invocation.arguments[0]}/json")
    config, identifier = details["Config"], details["Id"]
    attach_stdin = values.on("interactive") and config["OpenStdin"]
    check_tty(attach_stdin, config["Tty"])
    wanted = {"Tty": config["Tty"], "AttachStdin": attach_stdin, "AttachStdout": True, "AttachStderr": True}
    attachment = Attachment(
        engine, identifier, wanted, detach_keys=values.text("detach-keys"), sig_proxy=not config["Tty"]
    )
    removes = details["HostConfig"]["AutoRemove"]
    wait = begin_wait(engine, identifier, "removed" if removes else "next-exit")
    engine.post(f"/containers/{identifier}/start")
    attachment.resize()
    try:
        attachment.session.run()
    except Detached:
        return 0
    return finish_wait(wait)


COMMAND = Command("CONTAINER [CONTAINER...]", "Start one or more stopped containers", run, OPTIONS, least=1)
