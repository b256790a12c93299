""".dockerignore: which files of a build context do not exist for the build.

The rules are those of the reference: one pattern a line, matched from the context's root and, if one matches a
directory, for all that is in it; the last line that matches decides; `!` takes back. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sampan.build import glob
from sampan.build.pathname import clean
from sampan.errors import InvalidArgument

MAX_IGNORE_FILE = 1 << 20  # bytes
MAX_PATTERNS = 10_000


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    exception: bool
    pattern: glob.Pattern | None  # None: the text itself

    def matches(self, path: str) -> bool:
        return self.text == path if self.pattern is None else self.pattern.matches(path)


def parse(data: bytes) -> list[str]:
    """The patterns of a .dockerignore file. Raises InvalidArgument."""
    if len(data) > MAX_IGNORE_FILE:
        raise InvalidArgument(f".dockerignore is larger than {MAX_IGNORE_FILE} bytes")
    lines = data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape").split("\n")
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


class Ignore:
    """Decides for every path of a context. Raises InvalidArgument for a pattern that is none."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = [rule for text in patterns if (rule := _rule(text)) is not None]
        if len(self._rules) > MAX_PATTERNS:
            raise InvalidArgument(f".dockerignore has more than {MAX_PATTERNS} patterns")
        self.exceptions = any(rule.exception for rule in self._rules)

    def excludes(self, path: str) -> bool:
        """Is this file (relative, cleaned) left out? Looks at its parents, too."""
        matched: tuple[bool, ...] = ()
        at = path.find("/")
        while at >= 0:
            matched = self.matched(path[:at], matched)
            at = path.find("/", at + 1)
        return self.verdict(self.matched(path, matched))

    def matched(self, path: str, parent: tuple[bool, ...] = ()) -> tuple[bool, ...]:
        """Rule by rule: does it match the path or, by `parent`, one of its directories? For walks down a tree."""
        if not parent:
            return tuple([rule.matches(path) for rule in self._rules])
        return tuple([above or rule.matches(path) for above, rule in zip(parent, self._rules, strict=True)])

    def verdict(self, matched: tuple[bool, ...]) -> bool:
        """Left out? The last rule that matches decides."""
        for rule, hit in zip(reversed(self._rules), reversed(matched), strict=True):
            if hit:
                return not rule.exception
        return False


def _rule(text: str) -> _Rule | None:
    text = text.strip()
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
        if not text:
            raise InvalidArgument('illegal exclusion pattern: "!"')
    if not text:
        return None
    text = clean(text)
    if len(text) > 1:
        text = text.removeprefix("/")
    pattern = glob.filename(text, jumps=True)
    return _Rule(text, exception, pattern if any(char in "*?[\\" for char in text) else None)
