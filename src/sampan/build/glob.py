"""Wildcard patterns, matched in linear time: one pass over the text with a set of states held in an integer.

Patterns come from a Dockerfile or a .dockerignore, so none of them may become a regular expression that backtracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument

Test = Callable[[str], bool]


@dataclass(slots=True)
class Pattern:
    """A compiled pattern. Bit i of a state set means: the first i tokens have matched.

    `tests[i]` says which character token i takes; it is None for the tokens that may match nothing: `stars` (any run of
    characters that `loop` allows) and `jumps` (nothing, or anything that ends with a slash: what `**/` stands for; a
    jump uses two bits, the second while it runs).
    """

    tests: list[Test | None]
    stars: int = 0
    jumps: int = 0
    loop: Test = lambda char: True
    prefix: str = ""
    suffix: str = ""
    _masks: dict[str, int] = field(default_factory=dict)

    def matches(self, text: str) -> bool:
        """Does the pattern match the whole text?"""
        if not text.startswith(self.prefix) or not text.endswith(self.suffix):
            return False
        states = self._closed(1)
        for char in text:
            states = self._step(states, char)
            if not states:
                return False
        return bool(states >> len(self.tests) & 1)

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """Every position up to which the pattern matches from `start` on, shortest match first."""
        goal = len(self.tests)
        states = self._closed(1)
        for position in range(start, len(text)):
            if states >> goal & 1:
                yield position
            states = self._step(states, text[position])
            if not states:
                return
        if states >> goal & 1:
            yield len(text)

    def _step(self, states: int, char: str) -> int:
        mask = self._masks.get(char)
        if mask is None:
            mask = self._masks[char] = sum(1 << i for i, test in enumerate(self.tests) if test and test(char))
        after = (states & mask) << 1
        if self.stars and self.loop(char):
            after |= states & self.stars
        if self.jumps:
            entered, running = states & self.jumps, states & self.jumps << 1
            after |= entered << 1 | running
            if char == "/":
                after |= entered << 2 | running << 1
        return self._closed(after)

    def _closed(self, states: int) -> int:
        """Add what is reached without a character."""
        while True:
            more = states | (states & self.stars) << 1 | (states & self.jumps) << 2
            if more == states:
                return states
            states = more


class Builder:
    """Collects tokens from left to right."""

    def __init__(self, loop: Test) -> None:
        self._pattern = Pattern([], loop=loop)
        self._literal: list[str] = []  # the characters since the last token that is not a plain one
        self._plain = True

    def char(self, char: str) -> None:
        self._pattern.tests.append(lambda other: other == char)
        self._literal.append(char)

    def test(self, test: Test) -> None:
        self._pattern.tests.append(test)
        self._break()

    def star(self) -> None:
        bit = 1 << len(self._pattern.tests)
        if not self._literal and self._pattern.stars & bit >> 1:
            return  # two in a row are one
        self._pattern.stars |= bit
        self._pattern.tests.append(None)
        self._break()

    def jump(self) -> None:
        self._pattern.jumps |= 1 << len(self._pattern.tests)
        self._pattern.tests += (None, None)
        self._break()

    def _break(self) -> None:
        if self._plain:
            self._pattern.prefix = "".join(self._literal)
        self._plain = False
        self._literal = []

    def done(self) -> Pattern:
        self._pattern.suffix = "".join(self._literal)
        if self._plain:
            self._pattern.prefix = self._pattern.suffix
        return self._pattern


def _not_slash(char: str) -> bool:
    return char != "/"


def filename(pattern: str, jumps: bool = False) -> Pattern:
    """Go's filepath.Match: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]`, a backslash takes the next as it is.

    With `jumps` also what Docker adds for .dockerignore: `**` goes through any number of directories, none included.
    Raises InvalidArgument with Go's own words.
    """
    tokens = Builder(_not_slash)
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and jumps and pattern[at : at + 1] == "*":
            at += 2 if pattern[at + 1 : at + 2] == "/" else 1
            _any_depth(tokens, pattern, at)
        elif char == "*":
            tokens.star()
        elif char == "?":
            tokens.test(_not_slash)
        elif char == "[":
            test, at = _char_class(pattern, at)
            tokens.test(test)
        elif char == "\\":
            if at == len(pattern):
                raise _syntax_error(pattern)
            tokens.char(pattern[at])
            at += 1
        else:
            tokens.char(char)
    return tokens.done()


def _any_depth(tokens: Builder, pattern: str, at: int) -> None:
    rest = pattern[at:]
    whole = at == 2 and not any(char in "*?[\\" for char in rest)  # Docker takes "**x" for: ends in x
    tokens.jump()
    if not rest or whole:  # nothing follows: everything below
        tokens.star()


def _char_class(pattern: str, at: int) -> tuple[Test, int]:
    """What follows `[`: ranges up to `]`, at least one. Returns the test and where the class ends."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while pattern[at : at + 1] != "]" or not ranges:
        low, at = _class_char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _class_char(pattern, at + 1)
        ranges.append((low, high))
    return (lambda char: char != "/" and any(low <= char <= high for low, high in ranges) != negated), at + 1


def _class_char(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] in ("", "-", "]"):
        raise _syntax_error(pattern)
    if pattern[at] == "\\":
        at += 1
    if at + 1 >= len(pattern):  # the closing bracket has to come yet
        raise _syntax_error(pattern)
    return pattern[at], at + 1


def _syntax_error(pattern: str) -> InvalidArgument:
    return InvalidArgument(f'syntax error in pattern: "{pattern}"')


def shell(pattern: str, backwards: bool = False) -> Pattern:
    """The patterns of `${name#pattern}`: `*`, `?`, and a backslash before `*`, `?`, a backslash, `}` or `/`.

    `backwards` turns the pattern around, to match from a text's end. Raises InvalidArgument.
    """
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        size = 1
        if pattern[at] == "\\":
            size = 2
            if pattern[at + 1 : at + 2] not in tuple("*?\\}/"):
                raise InvalidArgument(f"invalid escape '{pattern[at : at + 2]}' in the pattern '{pattern}'")
        parts.append(pattern[at : at + size])
        at += size
    tokens = Builder(lambda char: True)
    for part in reversed(parts) if backwards else parts:
        if part == "*":
            tokens.star()
        elif part == "?":
            tokens.test(lambda char: True)
        else:
            tokens.char(part[-1])
    return tokens.done()


def find(pattern: Pattern, text: str, start: int) -> tuple[int, int] | None:
    """The leftmost longest match that begins at `start` or later."""
    for begin in range(start, len(text) + 1):
        longest = max(pattern.ends(text, begin), default=None)
        if longest is not None:
            return begin, longest
        if pattern.stars and text.startswith(pattern.prefix, begin) and _reaches_star(pattern, text, begin):
            return None  # what could not be found behind the star from here is not behind a later one either
    return None


def _reaches_star(pattern: Pattern, text: str, begin: int) -> bool:
    first = (pattern.stars & -pattern.stars).bit_length() - 1
    tests = pattern.tests[:first]
    return len(text) - begin >= first and all(
        test is not None and test(char) for test, char in zip(tests, text[begin : begin + first], strict=True)
    )
