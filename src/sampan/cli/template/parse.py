"""From the text of a Go template to a tree. Grammar: Go's text/template documentation, without define and template.

A node is a tuple whose first item says what it is:
  actions      ("text", str) · ("pipe", pipe) · ("if"|"with", [(pipe, nodes)…], else_nodes) · ("break",) · ("continue",)
               ("range", key_name, value_name, pipe, nodes, else_nodes)
  pipe         ("pipeline", variable or "", is_declaration, [command…]); a command is a list of operands
  operand      ("literal", value) · ("dot",) · ("variable", name) · ("name", function) · ("chain", operand, [field…])
               · a pipe in parentheses
"""

from __future__ import annotations

import re

from sampan.errors import SampanError

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

    Node = tuple[Any, ...]
DEPTH_LIMIT = 100


class TemplateError(SampanError):
    """The template is malformed, or does not fit what it is applied to. The message is Docker's where it has one."""


TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\.)')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))
      | (?P<declare>:=)
      | (?P<mark>[=|(),])
      | (?P<field>(?:\.[^\W\d]\w*)+)
      | (?P<variable>\$\w*)
      | (?P<name>[^\W\d]\w*)
      | (?P<dot>\.)""",
    re.VERBOSE,
)
QUOTED = r"\"(?:[^\"\\]|\\.)*\"|`[^`]*`|'(?:[^'\\]|\\.)'"
ACTION = re.compile(rf"\{{\{{(?:-(?=\s))?((?:{QUOTED}|[^\"`'}}]|\}}(?!\}}))*?)(?:\s-)?\}}\}}")
WHOLE = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0|[1-9]\d*)", re.ASCII)
CONSTANTS = {"true": True, "false": False, "nil": None}
COMMENT = re.compile(r"\s*/\*.*?\*/\s*", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "0": "\0"}

Token = tuple[str, str]


def unquote(text: str) -> str:
    """The value of a quoted Go string or character."""
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[1]), text[1:-1])


def split_actions(text: str) -> list[tuple[str, str]]:
    """("text", …) and ("action", …) in order, `{{-` and `-}}` applied. Raises TemplateError."""
    pieces: list[tuple[str, str]] = []
    position, trim = 0, False
    for match in ACTION.finditer(text):
        before = text[position : match.start()]
        if "{{" in before:
            break
        before = before.lstrip() if trim else before
        left_trims = match[0].startswith("{{-") and match[0][3:4].isspace()
        pieces.append(("text", before.rstrip() if left_trims else before))
        trim = match[0].endswith("-}}") and match[0][-4:-3].isspace()
        if not COMMENT.fullmatch(match[1]):
            pieces.append(("action", match[1]))
        position = match.end()
    rest = text[position:]
    if "{{" in rest:
        raise TemplateError("failed to parse template: template: :1: unclosed action")
    pieces.append(("text", rest.lstrip() if trim else rest))
    return [piece for piece in pieces if piece[0] == "action" or piece[1]]


def tokens_of(action: str) -> list[Token]:
    """The tokens of one action, each (kind, text); spaces are kept: `a .b` and `a.b` differ."""
    tokens, position = [], 0
    while position < len(action):
        match = TOKEN.match(action, position)
        if match is None:
            raise TemplateError(f'failed to parse template: template: :1: unexpected "{action[position]}" in command')
        tokens.append((match.lastgroup or "", match[0]))
        position = match.end()
    return tokens


class ActionReader:
    """Reads the tokens of one action."""

    def __init__(self, action: str) -> None:
        self.tokens = tokens_of(action)
        self.position = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def skip_space(self) -> Token:
        while self.peek()[0] == "space":
            self.position += 1
        return self.peek()

    def unexpected(self) -> TemplateError:
        kind, text = self.peek()
        what = "end of action" if kind == "end" else f'"{text}"'
        return TemplateError(f"failed to parse template: template: :1: unexpected {what} in command")

    def word(self) -> str:
        """The next name, or ""."""
        return self.take()[1] if self.skip_space()[0] == "name" else ""

    def end(self) -> None:
        if self.skip_space()[0] != "end":
            raise self.unexpected()

    def variable_list(self) -> tuple[list[str], bool]:
        """`$a, $b :=` at the start of a pipeline: (names, declares); the position stays when there is none."""
        start, names = self.position, []
        while self.skip_space()[0] == "variable":
            names.append(self.take()[1])
            kind, text = self.skip_space()
            if text == ",":
                self.take()
            elif kind == "declare" or text == "=":
                self.take()
                return names, kind == "declare"
            else:
                break
        self.position = start
        return [], False

    def pipeline(self, closing: str = "") -> Node:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise TemplateError("failed to parse template: too deeply nested")
        names, declares = self.variable_list()
        if len(names) > 1:
            raise TemplateError("failed to parse template: template: :1: too many declarations in command")
        commands = [self.command()]
        while self.skip_space()[1] == "|":
            self.take()
            commands.append(self.command())
        if closing:
            if self.skip_space()[1] != closing:
                raise TemplateError("failed to parse template: template: :1: unclosed left paren")
            self.take()
        self.depth -= 1
        return ("pipeline", names[0] if names else "", declares, commands)

    def command(self) -> list[Node]:
        operands: list[Node] = []
        while True:
            kind, text = self.skip_space()
            if kind == "end" or text in ("|", ")"):
                break
            operands.append(self.operand())
        if not operands:
            raise TemplateError("failed to parse template: template: :1: missing value for command")
        return operands

    def operand(self) -> Node:
        kind, text = self.take()
        node: Node
        if kind in ("string", "char"):
            node = ("literal", unquote(text) if kind == "string" else ord(unquote(text)))
        elif kind == "raw":
            node = ("literal", text[1:-1])
        elif kind == "number":
            node = ("literal", int(text, 0) if WHOLE.fullmatch(text) else float(text))
        elif kind == "field":
            return ("chain", ("dot",), text[1:].split("."))
        elif kind == "dot":
            node = ("dot",)
        elif kind == "variable":
            node = ("variable", text)
        elif kind == "name":
            node = ("literal", CONSTANTS[text]) if text in CONSTANTS else ("name", text)
        elif text == "(":
            node = self.pipeline(closing=")")
        else:
            self.position -= 1
            raise self.unexpected()
        if self.peek()[0] == "field":
            return ("chain", node, self.take()[1][1:].split("."))
        return node


class Parser:
    """Reads the pieces of a template into nodes, matching each block with its end."""

    def __init__(self, text: str) -> None:
        self.pieces = split_actions(text)
        self.position = 0
        self.depth = 0

    def template(self) -> list[Node]:
        nodes, closing, _ = self.block()
        if closing:
            raise TemplateError(f"failed to parse template: template: :1: unexpected {{{{{closing}}}}}")
        return nodes

    def block(self) -> tuple[list[Node], str, ActionReader]:
        """Nodes up to an `end` or `else` (or the end of the text), which it was, and the rest of that action."""
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise TemplateError("failed to parse template: too deeply nested")
        nodes: list[Node] = []
        while self.position < len(self.pieces):
            kind, text = self.pieces[self.position]
            self.position += 1
            if kind == "text":
                nodes.append(("text", text))
                continue
            reader = ActionReader(text)
            start = reader.position
            word = reader.word()
            if word in ("end", "else"):
                self.depth -= 1
                return nodes, word, reader
            if word in ("if", "with"):
                nodes.append(self.choice(word, reader))
            elif word == "range":
                nodes.append(self.range(reader))
            elif word in ("break", "continue"):
                reader.end()
                nodes.append((word,))
            else:
                reader.position = start
                nodes.append(("pipe", reader.pipeline()))
                reader.end()
        self.depth -= 1
        return nodes, "", ActionReader("")

    def branch(self) -> tuple[list[Node], str, ActionReader]:
        nodes, closing, reader = self.block()
        if not closing:
            raise TemplateError("failed to parse template: template: :1: unexpected EOF")
        return nodes, closing, reader

    def choice(self, word: str, reader: ActionReader) -> Node:
        cases = []
        while True:
            pipe = reader.pipeline()
            reader.end()
            nodes, closing, reader = self.branch()
            cases.append((pipe, nodes))
            if closing == "end":
                reader.end()
                return (word, cases, [])
            if reader.word() != word:
                reader.end()
                otherwise, closing, reader = self.branch()
                if closing == "else":
                    raise TemplateError("failed to parse template: template: :1: expected end; found {{else}}")
                return (word, cases, otherwise)

    def range(self, reader: ActionReader) -> Node:
        names, declares = reader.variable_list()
        if len(names) > 2 or (names and not declares):
            raise TemplateError("failed to parse template: template: :1: range takes at most two variables")
        pipe = reader.pipeline()
        reader.end()
        nodes, closing, _ = self.branch()
        otherwise: list[Node] = []
        if closing == "else":
            otherwise, closing, _ = self.branch()
        key, value = (names[0], names[1]) if len(names) == 2 else ("", names[0] if names else "")
        return ("range", key, value, pipe, nodes, otherwise)
