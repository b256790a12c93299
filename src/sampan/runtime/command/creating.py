"""What `create` and `run` share: their flags, and the options that come of them."""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument
from sampan.runtime.command.arguments import BOOL, INT, Flag
from sampan.runtime.command.call import absolute
from sampan.runtime.lifecycle.create import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.runtime.command.call import Call
    from sampan.runtime.lifecycle.create import Created
    from sampan.runtime.lifecycle.notify import Relay
    from sampan.runtime.lifecycle.records import Entry
    from sampan.runtime.operation import Report

BUNDLE = Flag(("bundle", "b"), "the bundle's directory (default: the current one)")
CONSOLE_SOCKET = Flag(("console-socket",), "unix socket that receives the near end of the process's terminal")
PID_FILE = Flag(("pid-file",), "file to write the process's pid to")
PRESERVE_FDS = Flag(
    ("preserve-fds",), "pass this many more descriptors to the process, from 3 on", INT, default="0"
)
FLAGS = (
    BUNDLE,
    CONSOLE_SOCKET,
    PID_FILE,
    Flag(("no-pivot",), "do not use pivot_root(2): for a host whose root is a ramdisk", BOOL),
    Flag(("no-new-keyring",), "do not make a session keyring for the container", BOOL),
    PRESERVE_FDS,
)


def options(call: Call) -> CreateOptions:
    """Raises InvalidArgument. `keep_console` and `stdio` are the caller's to set."""
    parsed = call.parsed
    listening = listen_fds(os.environ)
    pid_file = parsed.text("pid-file")
    return CreateOptions(
        id=call.id(),
        pid_file=pid_file and absolute(pid_file),  # of where we were called: before the bundle is entered
        bundle=enter_bundle(parsed.text("bundle")),
        console_socket=parsed.text("console-socket"),
        preserve_fds=preserved(parsed.number("preserve-fds"), listening),
        pivot=not parsed.flag("no-pivot"),
        new_keyring=not parsed.flag("no-new-keyring"),
        systemd=call.systemd,
        rootless=call.rootless,
        env=[f"LISTEN_FDS={listening}", "LISTEN_PID=1"] if listening else [],
        notify=bool(os.environ.get("NOTIFY_SOCKET")),
    )


def tell_steps(call: Call, report: Report) -> None:
    for step in report.steps:
        call.log.debug(f"{step.detail}: {step.micros} µs")


def listen_fds(environment: Mapping[str, str]) -> int:
    """How many sockets systemd, or podman in its place, gave us to pass on (sd_listen_fds(3)): from descriptor 3 on."""
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    return int(count) if pid == str(os.getpid()) and count.isascii() and count.isdigit() and len(count) < 5 else 0


def listen(entry: Entry) -> Relay | None:
    """Who passes on that the program is ready, where somebody waits for that (sd_notify(3)): before it is started."""
    host = os.environ.get("NOTIFY_SOCKET", "")
    if not host:
        return None
    from sampan.runtime.lifecycle import notify  # allowed: the runtime, not the container; rare

    return notify.listen(entry, host)


def await_ready(call: Call, entry: Entry, relay: Relay | None) -> None:
    """What it started is ready, or has ended, when a command that does not stay returns. Unlocks the entry."""
    if relay is None:
        return
    entry.unlock()  # it may take its time: exec, kill and delete are others' to call
    with relay:
        relay.wait()
        warn(call, relay)


def warn(call: Call, relay: Relay | None) -> None:
    if relay is not None and relay.trouble:
        call.log.warning(relay.trouble)


def tell(call: Call, created: Created) -> None:
    """The warnings; with --debug what was done and how long it took."""
    if call.log.debugging:
        tell_steps(call, created.report)
    for warning in created.warnings:
        call.log.warning(warning)


def enter_bundle(path: str) -> str:
    """See that the bundle is there. Hooks and relative paths start from it as in runc; the others are made absolute."""
    if not path:
        return absolute(".")
    try:
        os.chdir(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"chdir {path}") from error
    return absolute(".")


def preserved(count: int, listening: int = 0) -> int:
    """How many descriptors go on to the process: `listening` ones, and the `count` of --preserve-fds after them.

    Each must be there: ours are close-on-exec, the caller's are not. Raises InvalidArgument.
    """
    if count < 0:
        raise InvalidArgument("--preserve-fds: the number of descriptors must not be negative")
    for number in range(3, 3 + listening + count):
        try:
            there = os.get_inheritable(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            there = False
        if not there:
            wanted = f"preserved-fd {number - 2} (of {listening + count})"
            raise InvalidArgument(f"unable to stat {wanted}: descriptor {number} is not open")
    return listening + count
