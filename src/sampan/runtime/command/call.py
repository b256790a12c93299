"""What every command is called with: the global flags, its own, and where its output goes."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, NotFound
from sampan.lean.record import dataclass
from sampan.lean.structs import encode
from sampan.runtime.command import log
from sampan.runtime.command.arguments import BOOL, Flag, Parsed, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.lifecycle.records import Entry, Registry

PROGRAM = "sampan-runtime"

GLOBALS = (
    Flag(("debug",), "write debug messages to the log", BOOL),
    Flag(("log",), "append messages to this file (default: stderr)"),
    Flag(("log-format",), "how messages are written: text or json", default="text"),
    Flag(("root",), "directory of the containers' states; should lie on a tmpfs", default="/run/sampan-runtime"),
    Flag(("criu",), "(accepted and ignored)", hidden=True),
    Flag(("systemd-cgroup",), "have systemd make the cgroups; cgroupsPath is then slice:prefix:name", BOOL),
    Flag(("rootless",), "do without what only root may: true, false or auto", default="auto"),
    Flag(("version", "v"), "print the version", BOOL),
)


@dataclass
class Call:
    """One call of a command. `parsed` is the command's own part."""

    options: Parsed
    parsed: Parsed
    log: log.Log

    def id(self) -> str:
        """The container's id, the first argument. Raises InvalidArgument in runc's words."""
        if not self.parsed.arguments[0]:
            raise InvalidArgument("container id cannot be empty")
        return self.parsed.arguments[0]

    def registry(self) -> Registry:
        from sampan.runtime.lifecycle.records import Registry  # allowed: "spec" and "features" need none of it

        return Registry(root_directory(self.options, self.rootless))

    def entry(self) -> Entry:
        """The container that the first argument names; the caller closes it. Raises NotFound."""
        return self.registry().open(self.id())

    @property
    def systemd(self) -> bool:
        return self.options.flag("systemd-cgroup")

    @property
    def rootless(self) -> bool:
        """Whether this runs without a host's root rights: as another user, or in a user namespace.

        Raises InvalidArgument for a --rootless that is none of true, false and auto.
        """
        wanted = self.options.text("rootless")
        if wanted == "auto":
            from sampan.linux.cgroup import delegation  # allowed: "spec" and "features" need none of it

            return delegation.is_rootless()
        answer = parse((Flag(("rootless",), "", BOOL),), [f"--rootless={wanted}"], True)
        return answer.flag("rootless")

    def write(self, text: str) -> None:
        """To stdout."""
        log.write(1, text.encode(errors="surrogateescape"))

    def write_json(self, value: object) -> None:
        """One line of compact JSON on stdout."""
        log.write(1, encode(value) + b"\n")


def root_directory(options: Parsed, rootless: bool) -> str:
    """--root; the user's own run-time directory where the default is root's."""
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if rootless and directory and "root" not in options.given:
        return f"{directory}/{PROGRAM}"
    return absolute(options.text("root"))


def absolute(path: str) -> str:
    """A path of the caller's, from where we were called. Raises NotFound when that is no more."""
    if path.startswith("/"):
        return path
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise NotFound("getcwd: the current directory is gone") from None
