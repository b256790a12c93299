"""Printing lists: Docker's tables, `--format` templates, `--format json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sampan.cli.template import Row, Template, TemplateError
from sampan.cli.template.functions import to_json

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

ESCAPES = ((r"\t", "\t"), (r"\n", "\n"))


def format_table(lines: Sequence[Sequence[str]], minimum: int = 10, padding: int = 3) -> str:
    """Cells in columns, the last one of a line not padded. Widths count characters."""
    widths: list[int] = []
    for cells in lines:
        for column, cell in enumerate(cells[:-1]):
            if column == len(widths):
                widths.append(minimum)
            widths[column] = max(widths[column], len(cell) + padding)
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False)) + cells[-1] + "\n"
        for cells in lines
    )


def _escape_html(text: str) -> str:
    """Go's encoder escapes these three; Docker's list output has them so."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


class Listing:
    """What a list command can print: the fields with their column headers, and its default table.

    `headers`: field → column title, with the titles of fields that take an argument left out.
    """

    __slots__ = ("headers", "table", "type_name", "unlisted")

    def __init__(self, type_name: str, headers: Mapping[str, str], table: str, unlisted: Sequence[str] = ()) -> None:
        self.type_name = type_name
        self.headers = headers
        self.table = table
        self.unlisted = frozenset(unlisted)

    def row(self, fields: Mapping[str, Callable[..., Any]]) -> Row:
        """One line's data."""
        return Row(self.type_name, fields, self.unlisted)

    def _header_row(self) -> Row:
        def titled(title: str) -> Callable[..., str]:
            return lambda *words: str(words[0]).split(".")[-1].replace("-", " ").replace("_", " ") if words else title

        return Row(self.type_name, {name: titled(title) for name, title in self.headers.items()})

    def format(self, form: str, rows: Sequence[Row]) -> str:
        """The text to print. `form`: "", "table", "table TEMPLATE", "json" or a template. Raises TemplateError."""
        if form == "json":
            return "".join(_escape_html(to_json(row)) + "\n" for row in rows)
        is_table = form in ("", "table") or form.startswith("table ")
        text = self.table if form in ("", "table") else form.removeprefix("table ").strip() if is_table else form
        for escape, character in ESCAPES:
            text = text.replace(escape, character)
        template = Template(text)
        if not is_table:
            return "".join(template.render(row) + "\n" for row in rows)
        lines = [template.render(self._header_row()), *(template.render(row) for row in rows)]
        return format_table([line.split("\t") for part in lines for line in part.splitlines()])


__all__ = ["Listing", "TemplateError", "format_table"]
