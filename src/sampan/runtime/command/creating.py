"""What `create` and `run` share: their flags, and the options that come of them."""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument
from sampan.runtime.command.arguments import BOOL, INT, Flag
from sampan.runtime.lifecycle.create import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.call import Call
    from sampan.runtime.lifecycle.create import Created

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
    return CreateOptions(
        id=call.id(),
        bundle=enter_bundle(parsed.text("bundle")),
        pid_file=parsed.text("pid-file"),
        console_socket=parsed.text("console-socket"),
        preserve_fds=preserved(parsed.number("preserve-fds")),
        pivot=not parsed.flag("no-pivot"),
        new_keyring=not parsed.flag("no-new-keyring"),
        systemd=call.systemd,
        rootless=call.rootless,
    )


def tell(call: Call, created: Created) -> None:
    """The warnings; with --debug what was done and how long it took."""
    for step in created.report.steps if call.log.debugging else ():
        call.log.debug(f"{step.detail}: {step.micros} µs")
    for warning in created.warnings:
        call.log.warning(warning)


def enter_bundle(path: str) -> str:
    """See that the bundle is there. Hooks and relative paths start from it as in runc; the others are made absolute."""
    if not path:
        return os.getcwd()
    try:
        os.chdir(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"chdir {path}") from error
    return os.getcwd()


def preserved(count: int) -> int:
    """The number of --preserve-fds, each of which must be there: ours are close-on-exec, the caller's are not."""
    if count < 0:
        raise InvalidArgument("--preserve-fds: the number of descriptors must not be negative")
    for number in range(count):
        try:
            ours = not os.get_inheritable(3 + number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            ours = True
        if ours:
            raise InvalidArgument(
                f"unable to stat preserved-fd {number + 1} (of {count}): descriptor {3 + number} is not open"
            )
    return count
