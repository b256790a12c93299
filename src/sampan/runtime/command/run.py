"""`run`: create, start, stay until the end, delete."""

from __future__ import annotations

from sampan.errors import InvalidArgument, NotFound
from sampan.runtime.command import creating
from sampan.runtime.command.arguments import BOOL, Command, Flag
from sampan.runtime.lifecycle import create, delete, foreground, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call
    from sampan.runtime.lifecycle.create import Created

COMMAND = Command(
    "run",
    "make a container, run its program, delete the container",
    "<container-id>",
    (
        *creating.FLAGS,
        Flag(("detach", "d"), "return when the program runs", BOOL),
        Flag(("keep",), "do not delete the container after its end", BOOL),
        Flag(("no-subreaper",), "do not take in the container's orphans", BOOL),
    ),
    description=(
        "Makes the container of a bundle, runs its program and stays until it ends. Signals to this process reach the\n"
        "program; the exit code is the program's."
    ),
)


def run(call: Call) -> int:
    return _detached(call) if call.parsed.flag("detach") else _foreground(call)


def _detached(call: Call) -> int:
    created = create.create(call.registry(), creating.options(call))
    try:
        relay = creating.listen(created.entry)
        _start(call, created)
    except BaseException:
        _delete(call, created)
        raise
    else:
        creating.await_ready(call, created.entry, relay)
    finally:
        created.close()
    return 0


def _foreground(call: Call) -> int:
    registry = call.registry()
    options = creating.options(call)
    if options.console_socket:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    options.keep_console = True
    with foreground.Signals() as arriving:
        stdio = foreground.Stdio.without_terminals()
        options.stdio = stdio.given
        if not call.parsed.flag("no-subreaper"):
            foreground.be_subreaper()
        created = create.create(registry, options)
        keep = False
        try:
            attached = foreground.Attached(created.pid, created.pidfd, stdio, created.console)
            attached.relay = creating.listen(created.entry)
            code = _follow(call, created, attached, arriving)
            creating.warn(call, attached.relay)
            keep = call.parsed.flag("keep")
            return code
        finally:
            if not keep:
                _delete(call, created)
            created.close()


def _follow(
    call: Call, created: Created, attached: foreground.Attached, arriving: foreground.Signals
) -> int:
    if created.console < 0:
        return _until_end(call, created, attached, arriving)
    from sampan.runtime.lifecycle.host_terminal import HostTerminal  # allowed: termios, only with a terminal

    with HostTerminal() as attached.terminal:
        attached.terminal.show_size_to(created.console)  # before the program looks
        return _until_end(call, created, attached, arriving)


def _until_end(
    call: Call, created: Created, attached: foreground.Attached, arriving: foreground.Signals
) -> int:
    _start(call, created)
    created.entry.unlock()  # exec, kill and delete are others' to call from now on
    return attached.follow(arriving)


def _start(call: Call, created: Created) -> None:
    creating.tell(call, created)
    for warning in start.start_created(created):
        call.log.warning(warning)


def _delete(call: Call, created: Created) -> None:
    try:
        for warning in delete.delete_created(created):
            call.log.warning(warning)
    except NotFound:
        pass  # another command was faster
