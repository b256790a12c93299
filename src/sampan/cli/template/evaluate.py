"""Applying a parsed Go template to data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sampan.cli.template.functions import FUNCTIONS, go_text, truth
from sampan.cli.template.parse import Parser, TemplateError

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.template.parse import Node

OUTPUT_LIMIT = 64 << 20


class Row:
    """A thing whose fields are functions: a line of `ps`. `{{.Label "x"}}` calls its field with an argument."""

    __slots__ = ("fields", "type_name", "unlisted")

    def __init__(
        self, type_name: str, fields: Mapping[str, Callable[..., Any]], unlisted: frozenset[str] = frozenset(),
    ) -> None:
        self.type_name = type_name
        self.fields = fields
        self.unlisted = unlisted

    def as_dict(self) -> dict[str, Any]:
        """All fields that need no argument, in the order of their names (what `{{json .}}` prints)."""
        return {name: field() for name, field in sorted(self.fields.items()) if name not in self.unlisted}


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Scope:
    """What `.` is, and the variables in sight."""

    __slots__ = ("dot", "outer", "variables")

    def __init__(self, dot: Any, outer: _Scope | None = None) -> None:
        self.dot = dot
        self.outer = outer
        self.variables: dict[str, Any] = {}

    def holder(self, name: str) -> dict[str, Any]:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope.variables
            scope = scope.outer
        raise TemplateError(f"failed to parse template: template: :1: undefined variable {name!r}".replace("'", '"'))


class Template:
    """A template, parsed once. `functions` are added to Go's and Docker's own. Raises TemplateError."""

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.nodes = Parser(text).template()
        self.functions = {**FUNCTIONS, **(functions or {})}

    def render(self, data: Any) -> str:
        """The text for `data`: JSON values, or a Row."""
        scope = _Scope(data)
        scope.variables["$"] = data
        output: list[str] = []
        self._nodes(self.nodes, scope, output)
        return "".join(output)

    def fields(self) -> list[str]:
        """The names of the top-level fields it uses, in order: the columns of a table."""
        found: list[str] = []

        def walk(node: Any) -> None:
            if isinstance(node, tuple) and len(node) == 3 and node[0] == "chain" and node[1] == ("dot",):
                found.append(node[2][0])
            elif isinstance(node, tuple | list):
                for item in node:
                    walk(item)

        walk(self.nodes)
        return found

    def _nodes(self, nodes: list[Node], scope: _Scope, output: list[str]) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                output.append(node[1])
            elif kind == "pipe":
                value = self._pipeline(node[1], scope)
                if not node[1][1]:
                    output.append(go_text(value))
            elif kind == "range":
                self._range(node, scope, output)
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self._choice(node, scope, output)

    def _choice(self, node: Node, scope: _Scope, output: list[str]) -> None:
        kind, cases, otherwise = node
        for pipe, nodes in cases:
            inner = _Scope(scope.dot, scope)
            value = self._pipeline(pipe, inner)
            if truth(value):
                if kind == "with":
                    inner.dot = value
                return self._nodes(nodes, inner, output)
        return self._nodes(otherwise, _Scope(scope.dot, scope), output)

    def _range(self, node: Node, scope: _Scope, output: list[str]) -> None:
        _, key_name, value_name, pipe, nodes, otherwise = node
        over = self._pipeline(pipe, scope)
        if isinstance(over, dict):
            pairs = sorted(over.items())
        elif isinstance(over, int) and not isinstance(over, bool):
            pairs = [(number, number) for number in range(over)]
        elif isinstance(over, list | tuple):
            pairs = list(enumerate(over))
        elif over is None:
            pairs = []
        else:
            raise TemplateError(f"template parsing error: range can't iterate over {go_text(over)}")
        if not pairs:
            return self._nodes(otherwise, _Scope(scope.dot, scope), output)
        for key, value in pairs:
            inner = _Scope(value, scope)
            if key_name:
                inner.variables[key_name] = key
            if value_name:
                inner.variables[value_name] = value
            try:
                self._nodes(nodes, inner, output)
            except _Continue:
                continue
            except _Break:
                break
        return None

    def _pipeline(self, pipe: Node, scope: _Scope) -> Any:
        _, variable, declares, commands = pipe
        value: Any = None
        for position, command in enumerate(commands):
            value = self._command(command, scope, [value] if position else [])
        if variable:
            (scope.variables if declares else scope.holder(variable))[variable] = value
        return value

    def _command(self, operands: list[Node], scope: _Scope, piped: list[Any]) -> Any:
        head, *rest = operands
        if head[0] == "name":
            return self._call(head[1], rest, scope, piped)
        if head[0] == "chain":
            arguments = [self._operand(node, scope) for node in rest] + piped
            return self._fields(self._operand(head[1], scope), head[2], arguments)
        if rest or piped:
            raise TemplateError("template parsing error: can't give argument to non-function")
        return self._operand(head, scope)

    def _call(self, name: str, rest: list[Node], scope: _Scope, piped: list[Any]) -> Any:
        if name in ("and", "or"):
            value: Any = None
            for node in [*rest, *(("literal", item) for item in piped)]:
                value = self._operand(node, scope)
                if truth(value) == (name == "or"):
                    return value
            return value
        function = self.functions.get(name)
        if function is None:
            raise TemplateError(f'failed to parse template: template: :1: function "{name}" not defined')
        arguments = [self._operand(node, scope) for node in rest] + piped
        try:
            return function(*arguments)
        except TypeError:
            raise TemplateError(f"template parsing error: wrong number or type of arguments for {name}") from None

    def _operand(self, node: Node, scope: _Scope) -> Any:
        kind = node[0]
        if kind == "literal":
            return node[1]
        if kind == "dot":
            return scope.dot
        if kind == "variable":
            return scope.holder(node[1])[node[1]]
        if kind == "pipeline":
            return self._pipeline(node, scope)
        if kind == "name":
            return self._call(node[1], [], scope, [])
        return self._fields(self._operand(node[1], scope), node[2], [])

    def _fields(self, value: Any, names: list[str], arguments: list[Any]) -> Any:
        for position, name in enumerate(names):
            given = arguments if position == len(names) - 1 else []
            value = self._field(value, name, ".".join(names), given)
        return value

    def _field(self, value: Any, name: str, path: str, arguments: list[Any]) -> Any:
        if isinstance(value, Row):
            field = value.fields.get(name)
            if field is None:
                raise TemplateError(
                    f'failed to execute template: template: :1: executing "" at <.{path}>: '
                    f"can't evaluate field {name} in type {value.type_name}"
                )
            return field(*arguments)
        if isinstance(value, dict):
            if name not in value and name[:1].islower() and all(isinstance(item, str) for item in value.values()):
                return None  # a map of names that people chose (labels, attributes), not a field of the API
            if name not in value:
                raise TemplateError(f'template parsing error: template: :1: executing "" at <.{path}>: '
                                    f'map has no entry for key "{name}"')
            return value[name]
        what = "nil pointer" if value is None else f"type {type(value).__name__}"
        raise TemplateError(
            f'template parsing error: template: :1: executing "" at <.{path}>: can\'t evaluate field {name} in {what}'
        )
