"""`exec`: one more process in a container."""

from __future__ import annotations

import os
import sys

from sampan.errors import InvalidArgument
from sampan.lean.structs import decode
from sampan.linux import interpreter
from sampan.oci import runtime as oci
from sampan.runtime.command import creating
from sampan.runtime.command.arguments import BOOL, INTS, LIST, Command, Flag
from sampan.runtime.lifecycle import bundle, documents, execute, foreground
from sampan.runtime.operation import Report
from sampan.runtime.users import MAX_KERNEL_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.command.arguments import Parsed
    from sampan.runtime.command.call import Call
    from sampan.runtime.enter import Joined
    from sampan.runtime.lifecycle.execute import ExecOptions
    from sampan.runtime.lifecycle.host_terminal import HostTerminal
    from sampan.runtime.lifecycle.records import Entry

COMMAND = Command(
    "exec",
    "run one more process in a container",
    "<container-id> <command> [arguments...] | --process FILE <container-id>",
    (
        creating.CONSOLE_SOCKET,
        Flag(("cwd",), "working directory in the container"),
        Flag(("env", "e"), "NAME=value for the process's environment; may be repeated", LIST),
        Flag(("tty", "t"), "give it a terminal", BOOL),
        Flag(("user", "u"), "uid[:gid] of the process"),
        Flag(("additional-gids", "g"), "one more group of the process; may be repeated", INTS),
        Flag(("process", "p"), "file with the process as JSON, as in a config.json"),
        Flag(("detach", "d"), "return when the process runs", BOOL),
        creating.PID_FILE,
        Flag(("process-label",), "SELinux label of the process"),
        Flag(("apparmor",), "AppArmor profile of the process"),
        Flag(("no-new-privs",), "no program gives the process new privileges", BOOL),
        Flag(("cap", "c"), "one more capability (CAP_…); may be repeated", LIST),
        creating.PRESERVE_FDS,
        Flag(("cgroup",), "run in an existing group below the container's: [controller[,…]:]path", LIST),
        Flag(("ignore-paused",), "also in a paused container, where it waits for resume", BOOL),
    ),
    least=1,
    most=None,
    in_order=True,
    description=(
        "The process is like the container's own, but for what the flags say. One from a file has of the container's\n"
        "own only what the file does not speak of: capabilities, AppArmor profile, SELinux label, rlimits. Without\n"
        "--detach this stays until it ends; the exit code is the process's, 255 when it could not be run."
    ),
)


_NEEDED = ("XDG_RUNTIME_DIR", "LD_LIBRARY_PATH")
"""Of our environment: who may look into what joins can read it there (CVE-2021-3602), and nothing else uses it."""


def run(call: Call) -> int:
    parsed = call.parsed
    if len(parsed.arguments) == 1 and not parsed.text("process"):
        raise InvalidArgument("process args cannot be empty")
    with call.entry() as entry:
        spec = entry.spec()
        if execute.is_watched(entry.read(), spec) and not interpreter.is_readonly():  # CVE-2019-5736
            interpreter.restart(sys.orig_argv[1:], {name: os.environ[name] for name in _NEEDED if name in os.environ})
        options = _options(parsed, spec)
        if parsed.flag("detach"):
            joined = execute.execute(entry, options)
            _close(call, joined)
            return 0
        if options.console_socket:
            raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
        options.keep_console = True
        with foreground.Signals() as arriving:
            return _foreground(call, entry, options, arriving)


def _foreground(call: Call, entry: Entry, options: ExecOptions, arriving: foreground.Signals) -> int:
    if not options.process.terminal:
        stdio = foreground.Stdio.without_terminals()
        options.stdio = stdio.given
        return _follow(call, execute.execute(entry, options), stdio, None, arriving)
    from sampan.runtime.lifecycle.host_terminal import HostTerminal  # allowed: termios, only with a terminal

    with HostTerminal() as terminal:
        height, width = terminal.size()
        options.process.console_size = oci.ConsoleSize(height=height, width=width)
        joined = execute.execute(entry, options)
        return _follow(call, joined, foreground.Stdio(), terminal, arriving)


def _follow(
    call: Call, joined: Joined, stdio: foreground.Stdio, terminal: HostTerminal | None, arriving: foreground.Signals
) -> int:
    try:
        return foreground.Attached(joined.pid, joined.pidfd, stdio, joined.console, terminal).follow(arriving)
    finally:
        _close(call, joined)


def _close(call: Call, joined: Joined) -> None:
    if call.log.debugging:
        creating.tell_steps(call, decode(joined.report, Report))
    for warning in joined.warnings:
        call.log.warning(warning)
    for fd in (joined.pidfd, joined.console):
        if fd >= 0:
            os.close(fd)


def _options(parsed: Parsed, spec: oci.Spec) -> ExecOptions:
    assert spec.process is not None
    if parsed.text("process"):
        path = parsed.text("process")
        process = bundle.decode_process(documents.read(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path))
        confine(process, spec.process)
    else:
        process = changed(spec.process, parsed)
        bundle.check_process(process)
    return execute.ExecOptions(
        spec,
        process,
        pid_file=parsed.text("pid-file"),
        console_socket=parsed.text("console-socket"),
        preserve_fds=creating.preserved(parsed.number("preserve-fds")),
        ignore_paused=parsed.flag("ignore-paused"),
        cgroup=cgroups(parsed.texts("cgroup")),
    )


def confine(process: oci.Process, own: oci.Process) -> None:
    """What a process says nothing of is the container's own, as in runc: or one would get out of the container's
    profile, label and limits by leaving a word out.
    """
    if process.capabilities is None:
        process.capabilities = own.capabilities
    process.apparmor_profile = process.apparmor_profile or own.apparmor_profile
    process.selinux_label = process.selinux_label or own.selinux_label
    process.rlimits = process.rlimits or own.rlimits


def changed(process: oci.Process, parsed: Parsed) -> oci.Process:
    """The container's own process with what the flags say. Raises InvalidArgument."""
    process.args = parsed.arguments[1:]
    process.env = process.env + parsed.texts("env")
    process.cwd = parsed.text("cwd") or process.cwd
    process.apparmor_profile = parsed.text("apparmor") or process.apparmor_profile
    process.selinux_label = parsed.text("process-label") or process.selinux_label
    process.terminal = parsed.flag("tty")
    process.console_size = None
    if "no-new-privs" in parsed.given:
        process.no_new_privileges = parsed.flag("no-new-privs")
    if parsed.texts("cap"):
        process.capabilities = _with(process.capabilities or oci.Capabilities(), parsed.texts("cap"))
    if parsed.text("user"):
        uid, colon, gid = parsed.text("user").partition(":")
        process.user.uid = _id(uid, "uid")
        process.user.gid = _id(gid, "gid") if colon else process.user.gid
    groups = [_id(str(number), "gid") for number in parsed.numbers("additional-gids")]
    process.user.additional_gids = process.user.additional_gids + groups
    return process


def _with(sets: oci.Capabilities, names: list[str]) -> oci.Capabilities:
    """More for this process. Ambient ones only where there are inheritable ones: the kernel wants both."""
    sets.bounding = sets.bounding + names
    sets.effective = sets.effective + names
    sets.permitted = sets.permitted + names
    if sets.inheritable:
        sets.ambient = sets.ambient + names
    return sets


def _id(text: str, kind: str) -> int:
    """Numbers are numbers: no name is ever looked up (CVE-2016-3697)."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_KERNEL_ID:
        raise InvalidArgument(f"parsing {text} as int for {kind} failed: it must be a number from 0 to {MAX_KERNEL_ID}")
    return int(text)


def cgroups(given: list[str]) -> dict[str, str]:
    """--cgroup: "path" for all controllers ("" as the key), "cpu,memory:path" for these."""
    found: dict[str, str] = {}
    for text in given:
        names, colon, path = text.partition(":") if ":" in text else ("", "", text)
        for name in names.split(","):
            if colon and not name:
                raise InvalidArgument(f"invalid --cgroup {text!r}: it is [controller[,…]:]path")
            if name in found:
                what = f"for controller {name}" if name else "without controllers"
                raise InvalidArgument(f"--cgroup was given more than once {what}")
            found[name] = path
    return found
