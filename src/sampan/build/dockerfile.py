"""A Dockerfile's text taken apart into instructions: parser directives, comments, continued lines, flags, heredocs.

Pure: text in, `Node`s out. What the arguments of an instruction mean is `instruction`'s business. The rules are those
of the Dockerfile reference; where it is silent, those of BuildKit's parser, which the tests compare with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sampan.build import words
from sampan.build.expansion import ExpansionError, Rules, expand_words
from sampan.errors import InvalidArgument

MAX_DOCKERFILE = 4 << 20  # bytes; also what a heredoc may hold

_DIRECTIVE = re.compile(r"#[ \t\v\f\r]*([a-zA-Z][a-zA-Z0-9]*)[ \t\v\f\r]*=[ \t\v\f\r]*(.*\S)")
_HEREDOC = re.compile(r"([0-9]{0,9})<<(-?)([^<]+)")
_UNDECODED = re.compile("[\ud800-\udfff\0]")
_WITH_HEREDOC = ("ADD", "COPY", "RUN")


class DockerfileError(InvalidArgument):
    """Something is wrong on a line of a Dockerfile. `str()` names the file, the line, and what was expected."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"dockerfile parse error on {file}:{line}: {message}")
        self.file, self.line = file, line


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`<<NAME`. `expand`: variables in the content are replaced; `chomp` (`<<-`): leading tabs do not count."""

    name: str
    content: str
    expand: bool = True
    chomp: bool = False

    @property
    def text(self) -> str:
        """The content as it is meant."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction. `keyword` in capitals; `arguments` without the flags; `source` is the logical line."""

    keyword: str
    flags: tuple[str, ...]
    arguments: str
    source: str
    line: int
    end_line: int
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Dockerfile:
    name: str
    nodes: tuple[Node, ...]
    escape: str = "\\"
    syntax: str | None = None


def parse(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Raises DockerfileError; a file without any instruction is one, too."""
    if len(data) > MAX_DOCKERFILE:
        raise InvalidArgument(f"{name} is larger than {MAX_DOCKERFILE} bytes")
    reader = _Reader(data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape"), name)
    nodes = tuple(reader.nodes())
    if not nodes:
        raise DockerfileError(name, max(reader.line, 1), "file with no instructions")
    return Dockerfile(name, nodes, reader.escape, reader.directives.get("syntax"))


def split_line(line: str) -> tuple[str, tuple[str, ...], str]:
    """A logical line's keyword (in capitals), flags and arguments."""
    keyword, *rest = words.split_blanks(line.strip(), 1) or [""]
    if not rest:
        return keyword.upper(), (), ""
    flags, arguments = words.take_flags(rest[0])
    return keyword.upper(), tuple(flags), arguments.strip()


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self._lines = text.split("\n")
        if self._lines and not self._lines[-1]:
            self._lines.pop()
        self._name = name
        self.line = 0
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self._directives_end = False

    def nodes(self) -> Iterator[Node]:
        while self.line < len(self._lines):
            text = self._take().lstrip()
            start = self.line
            self._directive(text)
            if text.startswith("#"):
                continue
            text, complete = self._continued(text)
            if complete and not text:
                continue
            yield self._node(start, self._join(text, complete))

    def _take(self) -> str:
        self.line += 1
        return self._lines[self.line - 1].rstrip("\r")

    def _error(self, line: int, message: str) -> DockerfileError:
        return DockerfileError(self._name, line, message)

    def _directive(self, text: str) -> None:
        """`# escape=…` and `# syntax=…` count before anything else, an ordinary comment included."""
        if self._directives_end:
            return
        match = _DIRECTIVE.match(text)
        key = match[1].lower() if match else ""
        if match is None or key not in ("escape", "syntax", "check"):
            self._directives_end = True
            return
        if key in self.directives:
            raise self._error(self.line, f"only one {key} parser directive can be used")
        self.directives[key] = match[2]
        if key == "escape":
            if match[2] not in ("\\", "`"):
                raise self._error(self.line, f"invalid escape token '{match[2]}' does not match ` or \\")
            self.escape = match[2]

    def _continued(self, text: str) -> tuple[str, bool]:
        """The line without a continuation mark at its end; does the instruction end with it? Two marks are none."""
        bare = text.rstrip(" \t")
        if bare.endswith(self.escape) and not bare[:-1].endswith(self.escape):
            return bare[:-1], False
        return text, True

    def _join(self, text: str, complete: bool) -> str:
        parts = [text]
        while not complete and self.line < len(self._lines):
            more = self._take()
            if more.lstrip()[:1] in ("", "#"):  # comments and empty lines may stand between continued lines
                continue
            more, complete = self._continued(more)
            parts.append(more)
        return "".join(parts)

    def _node(self, start: int, source: str) -> Node:
        keyword, flags, arguments = split_line(source)
        heredocs = tuple(self._heredocs(start, source, keyword, arguments))
        for text in (source, *(heredoc.content for heredoc in heredocs)):
            if _UNDECODED.search(text):
                raise self._error(start, "the instruction holds bytes that are not UTF-8 text")
        return Node(keyword, flags, arguments, source.strip(), start, self.line, heredocs)

    def _heredocs(self, start: int, source: str, keyword: str, arguments: str) -> Iterator[Heredoc]:
        if keyword == "ONBUILD" and arguments:
            keyword, _, arguments = split_line(arguments)
        if keyword not in _WITH_HEREDOC or "<<" not in source:
            return
        try:
            if words.json_form(arguments) is not None:
                return
            marks = heredoc_marks(source)
        except InvalidArgument as error:
            raise self._error(start, str(error)) from error
        for mark in marks:
            yield Heredoc(mark.name, self._content(start, mark), mark.expand, mark.chomp)

    def _content(self, start: int, mark: Heredoc) -> str:
        lines: list[str] = []
        while self.line < len(self._lines):
            self.line += 1
            line = self._lines[self.line - 1]
            if (line.lstrip("\t") if mark.chomp else line).rstrip("\r") == mark.name:
                return "".join(lines)
            lines.append(line + "\n")
        raise self._error(start, f"unterminated heredoc: a line with only {mark.name} was expected")


def heredoc_marks(line: str) -> list[Heredoc]:
    """The `<<NAME` words of a logical line, still without content. Raises ExpansionError for a broken name."""
    try:
        found = expand_words(line, {}, Rules(keep_quotes=True, keep_escapes=True, keep_unset=True))
    except ExpansionError:  # an odd number of quotes: the shell's business
        return []
    return [mark for word in found if (mark := heredoc_mark(word)) is not None]


def heredoc_mark(word: str) -> Heredoc | None:
    match = _HEREDOC.fullmatch(word)
    if match is None:
        return None
    name = expand_words(match[3], {}, Rules(keep_unset=True))
    written = expand_words(match[3], {}, Rules(keep_unset=True, keep_quotes=True, keep_escapes=True))
    if len(name) != 1 or len(written) != 1:
        return None
    return Heredoc(name[0], "", expand=name == written, chomp=match[2] == "-")
