"""Variables in a Dockerfile's words: `$name`, `${name:-word}` and their like, with the shell's quotes.

The rules are those of the Dockerfile reference ("Environment replacement"). Pure: a word and a mapping in, text out.
Nesting and the size of the result are bounded: `ENV A=$A$A` doubles with every line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sampan.build import glob
from sampan.errors import InvalidArgument

MAX_NESTING = 50
MAX_RESULT = 1 << 20
MAX_PATTERN = 4096
_SPECIAL = "@*#?-$!0"


class ExpansionError(InvalidArgument):
    """A word that cannot be expanded; the caller adds the file and the line."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How words are read. The defaults are those of most instructions.

    `escape`: the file's escape character. `keep_quotes`, `keep_escapes`: leave them in the result. `ignore_quotes`:
    they are ordinary characters (heredocs). `keep_unset`: leave variables without a value as they are written.
    """

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    ignore_quotes: bool = False
    keep_unset: bool = False


def expand(word: str, variables: Mapping[str, str], rules: Rules) -> str:
    """The text with all variables replaced and quotes removed; spaces do not split it."""
    return _Reader(word, variables, rules).run()[0]


def expand_words(text: str, variables: Mapping[str, str], rules: Rules) -> list[str]:
    """As `expand`, and then split at spaces that are not quoted, those of unquoted variables included."""
    return _Reader(text, variables, rules).run()[1]


class _Words:
    """Splits at unquoted spaces what is added to it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._word: list[str] = []
        self._inside = False

    def add(self, text: str) -> None:
        for char in text:
            if char.isspace():
                self.end()
            else:
                self.add_quoted(char)

    def add_quoted(self, text: str) -> None:
        self._word.append(text)
        self._inside = True

    def end(self) -> None:
        if self._inside:
            self.words.append("".join(self._word))
        self._word, self._inside = [], False


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str], rules: Rules) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._rules = rules
        self._depth = 0
        self._room = MAX_RESULT

    def run(self) -> tuple[str, list[str]]:
        words = _Words()
        text = self._until("", self._rules.keep_escapes, words)
        words.end()
        return text, words.words

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _spend(self, text: str) -> str:
        self._room -= len(text)
        if self._room < 0:
            raise ExpansionError(f"the expanded text is longer than {MAX_RESULT} characters")
        return text

    def _until(self, stop: str, keep_escapes: bool, words: _Words) -> str:
        """Expand up to the character `stop` (none: up to the end) and step over it."""
        result: list[str] = []
        while (char := self._peek()) != "":
            if char == stop:
                self._at += 1
                return "".join(result)
            if char == "$":
                result.append(self._spend(self._dollar()))
                words.add(result[-1])
            elif char in "'\"" and not self._rules.ignore_quotes:
                result.append(self._single_quoted() if char == "'" else self._double_quoted())
                words.add_quoted(result[-1])
            elif char == self._rules.escape:
                result.append(self._escaped(keep_escapes))
                words.add_quoted(result[-1])
            else:
                result.append(self._next())
                words.add(char)
        if stop:
            raise ExpansionError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result)

    def _escaped(self, keep: bool) -> str:
        escape = self._next()
        return (escape if keep else "") + self._next()  # at the end of the text there is nothing to escape

    def _single_quoted(self) -> str:
        """Everything is taken as it is."""
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ExpansionError("unexpected end of statement while looking for matching single-quote")
        start, self._at = self._at, end + 1
        return self._text[start : end + 1] if self._rules.keep_quotes else self._text[start + 1 : end]

    def _double_quoted(self) -> str:
        """Variables are replaced; only `"`, `$` and the escape character itself can be escaped."""
        quote = self._next()
        result = [quote] if self._rules.keep_quotes else []
        while (char := self._peek()) != '"':
            if char == "":
                raise ExpansionError("unexpected end of statement while looking for matching double-quote")
            if char == "$":
                result.append(self._spend(self._dollar()))
                continue
            self._at += 1
            if char == self._rules.escape:
                if self._peek() == "":
                    continue
                if self._rules.keep_escapes or self._peek() not in ('"', "$", char):
                    result.append(char)
                char = self._next()
            result.append(char)
        self._at += 1
        return "".join([*result, quote] if self._rules.keep_quotes else result)

    def _dollar(self) -> str:
        start = self._at
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            return self._value_or_written(name, start)
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise ExpansionError(f"variables are nested more than {MAX_NESTING} deep")
        self._at += 1
        value = self._braced(start)
        self._depth -= 1
        return value

    def _value_or_written(self, name: str, start: int) -> str:
        if name in self._variables:
            return self._variables[name]
        return self._text[start : self._at] if self._rules.keep_unset else ""

    def _name(self) -> str:
        """A variable's name, or one of the shell's special parameters (which have no value here)."""
        start = self._at
        first = self._peek()
        if first.isdigit():
            while self._peek().isdigit():
                self._at += 1
        elif first and first in _SPECIAL:
            self._at += 1
        else:
            while (char := self._peek()) == "_" or char.isalnum():
                self._at += 1
        return self._text[start : self._at]

    def _braced(self, start: int) -> str:
        if self._peek() == "":
            raise ExpansionError("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise ExpansionError("syntax error: bad substitution")
        name = self._name()
        operator = self._next()
        if operator == "":
            raise ExpansionError("syntax error: missing '}'")
        if operator == "}":
            return self._value_or_written(name, start)
        value = self._replaced(name) if operator == "/" else self._modified(name, operator)
        if self._rules.keep_unset and name not in self._variables:
            return self._text[start : self._at]
        return value

    def _word(self, stop: str, keep_escapes: bool) -> str:
        return self._until(stop, keep_escapes, _Words())

    def _modified(self, name: str, operator: str) -> str:
        colon = operator == ":"
        if colon:
            operator = self._next()
            if operator == "":
                raise ExpansionError("syntax error: missing '}'")
        if operator not in "-+?#%" or (colon and operator in "#%"):
            raise ExpansionError(f"unsupported modifier ({':' * colon}{operator}) in substitution")
        try:
            word = self._word("}", keep_escapes=operator in "#%")
        except ExpansionError:
            if self._peek() == "":
                raise ExpansionError("syntax error: missing '}'") from None
            raise
        value = self._variables.get(name)
        if operator in "#%":
            return _trimmed(value or "", word, operator)
        unset = value is None or (colon and not value)
        if operator == "+":
            return "" if unset else word
        if not unset:
            return value or ""
        if operator == "?" and not self._rules.keep_unset:
            reason = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise ExpansionError(f"{name}: {word or reason}")
        return word

    def _replaced(self, name: str) -> str:
        """`${name/pattern/text}`: the first match; `${name//pattern/text}`: every match."""
        every = self._peek() == "/"
        self._at += every
        try:
            pattern = self._word("/", keep_escapes=True)
            text = self._word("}", keep_escapes=False)
        except ExpansionError:
            if self._peek() == "":
                raise ExpansionError("syntax error: missing '/' or '}' in ${" + name + "/") from None
            raise
        return self._substituted(self._variables.get(name, ""), _shell(pattern), text, every)

    def _substituted(self, value: str, pattern: glob.Pattern, text: str, every: bool) -> str:
        result: list[str] = []
        at = 0
        while at <= len(value) and (found := glob.find(pattern, value, at)) is not None:
            begin, end = found
            result += (value[at:begin], self._spend(text))
            at = end
            if begin == end:  # an empty match: go on behind the next character
                result.append(value[at : at + 1])
                at += 1
            if not every:
                break
        return "".join(result) + value[at:]


def _shell(pattern: str, backwards: bool = False) -> glob.Pattern:
    if len(pattern) > MAX_PATTERN:
        raise ExpansionError(f"a pattern in a substitution is longer than {MAX_PATTERN} characters")
    try:
        return glob.shell(pattern, backwards)
    except InvalidArgument as error:
        raise ExpansionError(str(error)) from error


def _trimmed(value: str, word: str, operator: str) -> str:
    """`#`: without the shortest prefix, `##`: the longest; `%` and `%%`: at the end."""
    longest = word.startswith(operator)
    backwards = operator == "%"
    pattern = _shell(word[longest:], backwards)
    text = value[::-1] if backwards else value
    ends = pattern.ends(text)
    size = max(ends, default=0) if longest else next(ends, 0)
    return text[size:][::-1] if backwards else text[size:]
