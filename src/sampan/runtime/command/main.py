"""The program `sampan-runtime`: global flags, the command, errors and exit codes as runc has them.

    exit code   0 done; 1 failed; 3 no such command; 255 exec failed; else that of the container's process
"""

from __future__ import annotations

import gc
import os
import sys

from sampan.errors import SampanError
from sampan.linux import signals
from sampan.runtime.command import log, usage
from sampan.runtime.command.arguments import UsageError, check_count, parse
from sampan.runtime.command.call import GLOBALS, PROGRAM, Call
from sampan.runtime.command.catalog import MODULES, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    from sampan.runtime.command.arguments import Command, Parsed

    class CommandModule(Protocol):
        """A module of this package: what the command takes, and what it does. `run` returns the exit code."""

        COMMAND: Command

        def run(self, call: Call) -> int: ...


_PREFIXES = {"create": f"{PROGRAM} create failed: ", "run": f"{PROGRAM} run failed: ", "exec": "exec failed: "}
_EXIT_CODES = {"exec": 255}


def main() -> NoReturn:
    """Ends the process at once: an orderly end of the interpreter takes as long as a container's start."""
    gc.disable()  # nor does it live long enough for a collection to be worth its time
    code = 1
    try:
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)  # ignored, as some callers have it, no child has an exit code
        _open_stdio()
        code = run(sys.argv[1:])
    finally:
        os._exit(code)


def _open_stdio() -> None:
    """Descriptors 0, 1 and 2 exist: or the first file that is opened would become somebody's stdout."""
    while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def run(arguments: list[str]) -> int:
    """One command line, to its exit code. Every error is told on the way."""
    messages = log.Log()
    try:
        options = parse(GLOBALS, arguments, False)
    except UsageError as error:
        return _misused(messages, error, "Incorrect Usage.", _program_help())
    try:
        messages = log.Log(options.text("log"), options.text("log-format"), options.flag("debug"))
        return _dispatch(options, messages)
    except SampanError as error:
        messages.fatal(str(error))
    except OSError as error:
        messages.fatal(in_words(error))
    except Exception as error:
        _trace(messages)
        messages.fatal(f"internal error: {type(error).__name__}: {error}")
    return 1


def _misused(messages: log.Log, error: UsageError, begin: str, text: str) -> int:
    try:
        log.write(1, f"{begin} {log.printable(str(error))}\n\n{text}".encode())
    except OSError:
        pass  # nobody reads it, or its disk is full: the error itself is told elsewhere
    messages.fatal(str(error))
    return 1


def _dispatch(options: Parsed, messages: log.Log) -> int:
    name, *rest = options.arguments or [""]
    if options.flag("version"):
        log.write(1, usage.version().encode())
        return 0
    if name in ("help", "h") and rest and not options.help:
        name, rest = rest[0], ["--help"]
    elif options.help or name in ("", "help", "h"):
        log.write(1, _program_help().encode())
        return 0
    if name in UNSUPPORTED:
        messages.fatal(f"{name} is not supported: {PROGRAM} does not work with CRIU")
        return 1
    if name not in MODULES:
        messages.fatal(f"No help topic for '{name}'")
        return 3
    return _run_command(_module(name), options, rest, messages)


def _module(name: str) -> CommandModule:
    module: CommandModule = __import__(f"{__package__}.{MODULES[name]}", fromlist=("COMMAND",))
    return module


def _run_command(module: CommandModule, options: Parsed, arguments: list[str], messages: log.Log) -> int:
    command = module.COMMAND
    try:
        parsed = parse(command.flags, arguments, not command.in_order)
        if parsed.help:
            log.write(1, usage.command(PROGRAM, command).encode())
            return 0
        check_count(PROGRAM, command, len(parsed.arguments))
    except UsageError as error:
        return _misused(messages, error, "Incorrect Usage:", usage.command(PROGRAM, command))
    try:
        return module.run(Call(options, parsed, messages))
    except KeyboardInterrupt:
        return 130
    except (SampanError, OSError) as error:
        _trace(messages)
        for note in getattr(error, "__notes__", ()):
            messages.warning(note)
        words = in_words(error) if isinstance(error, OSError) else str(error)
        messages.fatal(_PREFIXES.get(command.name, "") + words)
        return _EXIT_CODES.get(command.name, 1)


def _trace(messages: log.Log) -> None:
    """With --debug: where the error that is being handled came from."""
    if messages.debugging:
        import traceback  # allowed: only for --debug

        for line in traceback.format_exc().splitlines():
            messages.debug(line)


def in_words(error: OSError) -> str:
    """An error of the system as Go says it: "/run/x: permission denied"."""
    reason = (error.strerror or str(error)).lower()
    name = error.filename
    about = os.fsdecode(name) if isinstance(name, str | bytes) else "" if name is None else str(name)
    return f"{about}: {reason}" if about else reason


def _program_help() -> str:
    return usage.program(PROGRAM, GLOBALS, {name: _module(name).COMMAND.summary for name in MODULES})
