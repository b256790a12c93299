"""How output is laid out: JSON for people, tables."""

from __future__ import annotations

from sampan.lean.structs import encode


def indented(value: object, indent: str, level: int = 0) -> str:
    """JSON with one member a line, as Go's json.MarshalIndent writes it; no newline at the end."""
    inner, outer = "\n" + indent * (level + 1), "\n" + indent * level
    if isinstance(value, dict) and value:
        members = (f"{encode(key).decode()}: {indented(member, indent, level + 1)}" for key, member in value.items())
        return f"{{{inner}{f',{inner}'.join(members)}{outer}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{f',{inner}'.join(indented(member, indent, level + 1) for member in value)}{outer}]"
    return encode(value).decode()


def table(rows: list[list[str]]) -> str:
    """Columns at least 12 wide, with 3 spaces between; the last one as it is."""
    widths = [max(12, max(map(len, column)) + 3) for column in zip(*rows, strict=True)][:-1]
    lines = ("".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows)
    return "".join(f"{line}\n" for line in lines)
