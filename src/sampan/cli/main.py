"""The `sampan` command: finds the command's file, calls it, turns what went wrong into a sentence and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module

from sampan import __version__
from sampan.cli.catalog import COMMON, GROUPED, GROUPS, HIDDEN_WORDS, INSIGHT, OTHERS, SUMMARIES, aliases, module_of
from sampan.cli.command import Command, Invocation, format_options
from sampan.cli.failure import CommandFailed, EngineError, Quit, UsageError
from sampan.cli.flags import STRING, Option, Values, parse
from sampan.errors import SampanError

GLOBAL_OPTIONS = (
    Option("-H", "--host", kind=STRING, help="Engine socket to connect to (or SAMPAN_HOST, DOCKER_HOST)"),
    Option("-D", "--debug", help="Show the program's own trace when something goes wrong"),
    Option("-v", "--version", help="Print version information and quit"),
)
# Commands whose every failure before the program runs is 125 (Docker's convention for run).
RUNS_A_PROGRAM = frozenset(("run",))


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line (default: the process's own) and returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = False
    try:
        parsed = parse(GLOBAL_OPTIONS, words, stop_at_argument=True)
        debug = parsed.values.on("debug")
        if parsed.values.on("version"):
            print(f"Sampan version {__version__}")
            return 0
        return _command(parsed.arguments, parsed.values, parsed.wants_help)
    except UsageError as error:
        _say(f"{error}\n\nUsage:  sampan [OPTIONS] COMMAND [ARG...]\n\nRun 'sampan --help' for more information")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again at exit when it flushes.
        sys.stdout = None
        return 141
    except Exception:
        if debug:
            raise
        import traceback

        kind, value = sys.exc_info()[:2]
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        name = kind.__name__ if kind else "error"
        place = f"{where.name}, line {where.lineno}"
        _say(f"sampan: internal error: {name}: {value} ({place}); `sampan -D …` shows the trace")
        return 70


def _say(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr)


def _command(words: list[str], globals_: Values, wants_help: bool) -> int:
    if words[:1] == ["help"]:
        words, wants_help = words[1:], True
    if not words:
        print(overview(), end="")
        return 0
    module, count = module_of(words)
    if not module:
        return _no_such_command(words, wants_help)
    command: Command = import_module(f"sampan.cli.commands.{module}").COMMAND
    name = " ".join(["sampan", *words[:count]])
    try:
        invocation = None if wants_help else command.parse(name, words[count:], globals_.text("host") or None)
    except UsageError as error:
        prefix = "sampan: " if error.exit_code == 1 else ""
        _say(f"{prefix}{error}\n\n{command.usage_line(name)}\n\nRun '{name} --help' for more information")
        return error.exit_code
    if invocation is None:
        print(command.help(name, aliases(module)), end="")
        return 0
    return _run(command, invocation, module)


def _run(command: Command, invocation: Invocation, module: str) -> int:
    runs = module in RUNS_A_PROGRAM
    try:
        return command.run(invocation)
    except Quit as quit:
        if str(quit):
            _say(str(quit))
        return quit.exit_code
    except UsageError as error:
        _say(f"sampan: {error}\n\nRun '{invocation.name} --help' for more information")
        return error.exit_code
    except EngineError as error:
        _say(f"{'sampan: ' if runs else ''}Error response from daemon: {error}")
        return 125 if runs else 1
    except CommandFailed as error:
        _say(f"sampan: {error}")
        return error.exit_code
    except SampanError as error:
        _say(f"sampan: {error}")
        return 125 if runs else 1
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        reason = (error.strerror or str(error)).lower()
        _say(f"sampan: {error.filename}: {reason}" if error.filename else f"sampan: {reason}")
        return 125 if runs else 1


def _no_such_command(words: list[str], wants_help: bool) -> int:
    group = words[0]
    if group not in GROUPS:
        _say(f"sampan: unknown command: sampan {group}\n\nRun 'sampan --help' for more information")
        return 1
    if wants_help or len(words) == 1 or words[1] in ("--help", "-h"):
        print(group_overview(group), end="")
        return 0
    _say(f"sampan: unknown command: sampan {group} {words[1]}\n\nRun 'sampan {group} --help' for more information")
    return 1


def _listing(commands: dict[str, str]) -> str:
    width = max(len(name) for name in commands) + 2
    return "\n".join(f"  {name.ljust(width)}{summary}" for name, summary in sorted(commands.items()))


def overview() -> str:
    """The text of `sampan --help`."""
    common = "\n".join(f"  {name.ljust(12)}{summary}" for name, summary in COMMON.items())
    insight = "\n".join(f"  {name.ljust(12)}{summary}" for name, summary in INSIGHT.items())
    return (
        "Usage:  sampan [OPTIONS] COMMAND\n\nA container engine: images, namespaces and cgroups\n\n"
        f"Common Commands:\n{common}\n\nLooking Inside:\n{insight}\n\nManagement Commands:\n{_listing(GROUPS)}\n\n"
        f"Commands:\n{_listing(OTHERS)}\n\nGlobal Options:\n{format_options(GLOBAL_OPTIONS)}\n\n"
        "Run 'sampan COMMAND --help' for more information on a command.\n"
    )


def group_overview(group: str) -> str:
    """The text of `sampan container --help`."""
    commands = {word: SUMMARIES[module] for word, module in GROUPED[group].items() if word not in HIDDEN_WORDS}
    return (
        f"Usage:  sampan {group} COMMAND\n\n{GROUPS[group]}\n\nCommands:\n{_listing(commands)}\n\n"
        f"Run 'sampan {group} COMMAND --help' for more information on a command.\n"
    )
