"""A command line as Go programs read it (package flag, with urfave/cli's additions), without argparse's 20 ms.

`-b x`, `--bundle x`, `-b=x`, `--bundle=x` are the same, one dash or two; a bool takes its value after `=` only; `--`
ends the flags. A command's flags may come after its arguments too, unless it is `in_order` because its arguments are
another program's command line.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass, field

BOOL, STRING, INT, LIST, INTS = "bool", "string", "int", "list", "ints"
"""What a flag holds. LIST and INTS may be given several times."""

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(InvalidArgument):
    """The command line cannot be understood: the usage is shown, then the error."""


@dataclass(frozen=True)
class Flag:
    """`names`: as typed, without dashes, the longest first. `hidden`: accepted, not shown."""

    names: tuple[str, ...]
    help: str
    kind: str = STRING
    default: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class Command:
    """What a command takes: its name, one line about it, its arguments' names, how many (`most` None: no limit)."""

    name: str
    summary: str
    usage: str
    flags: tuple[Flag, ...] = ()
    least: int = 1
    most: int | None = 1
    in_order: bool = False
    description: str = ""


@dataclass
class Parsed:
    """Values by a flag's first name; `given` names those that were on the command line; `help` was asked for."""

    values: dict[str, str | bool | int | list[str] | list[int]]
    arguments: list[str]
    given: set[str] = field(default_factory=set)
    help: bool = False

    def text(self, name: str) -> str:
        return str(self.values[name])

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    def number(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def texts(self, name: str) -> list[str]:
        value = self.values[name]
        assert isinstance(value, list)
        return [str(entry) for entry in value]

    def numbers(self, name: str) -> list[int]:
        value = self.values[name]
        assert isinstance(value, list)
        return [int(entry) for entry in value]


HELP = Flag(("help", "h"), "show help", BOOL)


def parse(flags: tuple[Flag, ...], arguments: list[str], mixed: bool) -> Parsed:
    """`mixed`: flags may follow arguments; what then looks like a flag but is none is an argument ("kill ID -9").

    Raises UsageError in the words of Go's package flag.
    """
    known = {name: flag for flag in (*flags, HELP) for name in flag.names}
    parsed = Parsed({flag.names[0]: _default(flag) for flag in flags}, [])
    left = list(reversed(arguments))
    while left:
        word = left.pop()
        if word == "--":
            parsed.arguments += reversed(left)
            break
        name, equals, value = _split(word)
        if not name:
            parsed.arguments.append(word)
        elif name not in known:
            if not parsed.arguments:
                raise UsageError(f"flag provided but not defined: -{name}")
            parsed.arguments.append(word)
        else:
            flag = known[name]
            if not equals and flag.kind == BOOL:
                value = "true"
            elif not equals:
                if not left:
                    raise UsageError(f"flag needs an argument: -{name}")
                value = left.pop()
            _set(parsed, flag, name, value)
        if parsed.arguments and not mixed:
            parsed.arguments += reversed(left)
            break
    return parsed


def check_count(program: str, command: Command, count: int) -> None:
    """Raises UsageError, in runc's words, when a command got too few or too many arguments."""
    if command.least == command.most and count != command.least:
        raise UsageError(f'{program}: "{command.name}" requires exactly {command.least} argument(s)')
    if count < command.least:
        raise UsageError(f'{program}: "{command.name}" requires a minimum of {command.least} argument(s)')
    if command.most is not None and count > command.most:
        raise UsageError(f'{program}: "{command.name}" requires a maximum of {command.most} argument(s)')


def _split(word: str) -> tuple[str, str, str]:
    """(name or "" when it is no flag, "=" if there, value)."""
    if len(word) < 2 or word[0] != "-":
        return "", "", ""
    body = word[2:] if word.startswith("--") else word[1:]
    if not body or body[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    return body.partition("=")


def _default(flag: Flag) -> str | bool | int | list[str] | list[int]:
    if flag.kind == BOOL:
        return False
    if flag.kind == INT:
        return int(flag.default or "0")
    return flag.default if flag.kind == STRING else list[str]()


def _set(parsed: Parsed, flag: Flag, name: str, value: str) -> None:
    first = flag.names[0]
    if flag is HELP:
        parsed.help = _bool(name, value)
        return
    parsed.given.add(first)
    if flag.kind == BOOL:
        parsed.values[first] = _bool(name, value)
    elif flag.kind == INT:
        parsed.values[first] = _int(name, value)
    elif flag.kind == STRING:
        parsed.values[first] = value
    elif flag.kind == INTS:
        parsed.values[first] = [*parsed.numbers(first), _int(name, value)]
    else:
        parsed.values[first] = [*parsed.texts(first), value]


def _bool(name: str, value: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise UsageError(f'invalid boolean value "{value}" for -{name}: parse error')
    return value in _TRUE


def _int(name: str, value: str) -> int:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise UsageError(f'invalid value "{value}" for flag -{name}: parse error')
    if not -(2**63) <= int(value) < 2**63:
        raise UsageError(f'invalid value "{value}" for flag -{name}: value out of range')
    return int(value)
