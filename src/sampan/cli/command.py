"""What a command is, what it is called with, and how its help reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sampan.cli.address import choose_address
from sampan.cli.engine import Engine
from sampan.cli.failure import UsageError
from sampan.cli.flags import HELP, Option, Values, parse


class Command:
    """A command's declaration: one per file in `commands/`, named COMMAND there.

    `usage` is what follows the name in the usage line, without "[OPTIONS]". `least` and `most` bound the number of
    arguments (None: no bound). `stop_at_argument`: options end at the first argument. `detail`: more help text.
    """

    __slots__ = ("detail", "least", "most", "options", "run", "stop_at_argument", "summary", "usage")

    def __init__(
        self, usage: str, summary: str, run: Callable[[Invocation], int], options: Sequence[Option] = (), *,
        least: int = 0, most: int | None = None, stop_at_argument: bool = False, detail: str = "",
    ) -> None:
        self.usage = usage
        self.summary = summary
        self.run = run
        self.options = tuple(options)
        self.least = least
        self.most = most
        self.stop_at_argument = stop_at_argument
        self.detail = detail

    def usage_line(self, name: str) -> str:
        """`Usage:  sampan ps [OPTIONS]`."""
        parts = ("Usage: ", name, "[OPTIONS]" if self.options else "", self.usage)
        return " ".join(part for part in parts if part)

    def parse(self, name: str, words: Sequence[str], host: str | None) -> Invocation | None:
        """The call, or None when help is wanted. Raises UsageError."""
        parsed = parse(self.options, words, self.stop_at_argument)
        if parsed.wants_help:
            return None
        count = len(parsed.arguments)
        if count < self.least or (self.most is not None and count > self.most):
            raise UsageError(f"'{name}' {self._requirement()}", exit_code=1)
        return Invocation(name, parsed.values, parsed.arguments, host)

    def _requirement(self) -> str:
        def noun(count: int) -> str:
            return f"{count} argument{'' if count == 1 else 's'}"

        if self.most == 0:
            return "accepts no arguments"
        if self.most is None:
            return f"requires at least {noun(self.least)}"
        if self.least == self.most:
            return f"requires {noun(self.least)}"
        if self.least == 0:
            return f"requires at most {noun(self.most)}"
        return f"requires at least {self.least} and at most {noun(self.most)}"

    def help(self, name: str, aliases: Sequence[str] = ()) -> str:
        """The text of `--help`."""
        blocks = [self.usage_line(name), self.summary]
        if self.detail:
            blocks.append(self.detail)
        if aliases:
            blocks.append("Aliases:\n  " + ", ".join(aliases))
        shown = sorted((option for option in self.options if not option.hidden), key=lambda option: option.key.lower())
        if shown:
            blocks.append("Options:\n" + format_options(shown))
        return "\n\n".join(blocks) + "\n"


def format_options(options: Sequence[Option], width: int = 80) -> str:
    """Two columns: names with the value's word, and the help text wrapped."""
    rows = []
    for option in options:
        *short, long = option.names
        left = f"{short[0] + ',' if short else '   '} {long}{' ' + option.kind.word if option.kind.word else ''}"
        default = f" (default {option.shown_default})" if option.shown_default else ""
        rows.append((left, option.help + default))
    indent = max(len(left) for left, _ in rows) + 5
    return "\n".join(_two_columns(left, text, indent, max(width, indent + 20)) for left, text in rows)


def _two_columns(left: str, text: str, indent: int, width: int) -> str:
    lines = [f"  {left}".ljust(indent)]
    for word in text.split():
        if len(lines[-1]) + len(word) > width and len(lines[-1]) > indent:
            lines.append(" " * indent)
        lines[-1] += word + " "
    return "\n".join(line.rstrip() for line in lines)


class Invocation:
    """One call of a command: option values, arguments, and the engine to talk to."""

    def __init__(self, name: str, values: Values, arguments: list[str], host: str | None) -> None:
        self.name = name
        self.values = values
        self.arguments = arguments
        self.host = host
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The client, made on first use: a command that fails on its own words never connects."""
        if self._engine is None:
            self._engine = Engine(choose_address(self.host))
        return self._engine


__all__ = ["HELP", "Command", "Invocation", "format_options"]
