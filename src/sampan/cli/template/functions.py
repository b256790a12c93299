"""The functions of Go templates and those that Docker adds, and how Go prints values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from sampan.cli.template.parse import TemplateError

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")
SIZE_LIMIT = 10_000


def go_text(value: Any, nested: bool = False) -> str:
    """A value as Go's %v prints it."""
    if value is None:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) >= 1e21 else (repr(value).removesuffix(".0"))
    if isinstance(value, list | tuple):
        return f"[{' '.join(go_text(item, True) for item in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(item, True)}' for key, item in sorted(value.items()))}]"
    return str(value)


def to_json(value: Any) -> str:
    """Compact JSON as Go's encoder writes it (without its HTML escapes). A line of a list becomes an object."""
    if hasattr(value, "as_dict"):
        value = value.as_dict()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def go_quote(text: str) -> str:
    """As %q and strconv.Quote: printable characters stay."""
    return json.dumps(text, ensure_ascii=False)


def truth(value: Any) -> bool:
    """What `if` goes by: not false, 0, nil, or empty."""
    return bool(value)


def _printf(form: str, *values: Any) -> str:
    left = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        if int(width or 0) > SIZE_LIMIT or int(precision or 0) > SIZE_LIMIT:
            raise TemplateError("template parsing error: printf: width or precision is too large")
        return _verb(verb, left.pop(0), flags, width, precision)

    text = VERB.sub(one, form)
    extra = ", ".join(go_text(value, True) for value in left)
    return f"{text}%!(EXTRA {extra})" if left else text


def _verb(verb: str, value: Any, flags: str, width: str, precision: str | None) -> str:
    dot = f".{precision}" if precision is not None else ""
    if verb in "vs":
        return f"%{flags.replace('#', '')}{width}{dot}s" % go_text(value, True)
    if verb == "q":
        return f"%{flags}{width}s" % go_quote(go_text(value, True))
    if verb == "t" and isinstance(value, bool):
        return go_text(value)
    if verb in "dxXocb" and isinstance(value, int):
        return format(value, "b") if verb == "b" else f"%{flags}{width}{verb}" % value
    if verb in "feEgG" and isinstance(value, int | float):
        return f"%{flags}{width}{dot}{verb}" % value
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    return f"%!{verb}({go_text(value, True)})"


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            # A map of strings gives "" for what it lacks, as Go's map[string]string does; other maps give nil.
            value = value.get(key, "" if all(isinstance(item, str) for item in value.values()) else None)
        elif isinstance(value, list | tuple | str) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"template parsing error: error calling index: index out of range: {key}")
            value = value[key]
        elif value is None:
            raise TemplateError("template parsing error: error calling index: index of untyped nil")
        else:
            raise TemplateError(f"template parsing error: error calling index: no {key} in {go_text(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    start = bounds[0] if bounds else 0
    end = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= start <= end <= len(value):
        raise TemplateError("template parsing error: error calling slice: index out of range")
    return value[start:end]


def _equal(first: Any, *others: Any) -> bool:
    """1 equals 1.0, but true does not equal 1."""
    return any(first == other and (type(first) is type(other) or _numbers(first, other)) for other in others)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | tuple | dict):
        return len(value)
    if value is None:
        return 0
    raise TemplateError(f"template parsing error: error calling len: len of type {type(value).__name__}")


def _println(*values: Any) -> str:
    return " ".join(go_text(value, True) for value in values) + "\n"


def _print(*values: Any) -> str:
    """Go's Sprint: a space between two operands when neither is a string."""
    text = ""
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            text += " "
        text += go_text(value, True)
    return text


def _pad(text: str, before: int, after: int) -> str:
    if not text or not 0 <= before <= SIZE_LIMIT or not 0 <= after <= SIZE_LIMIT:
        return text
    return " " * before + text + " " * after


def _join(items: Any, separator: str) -> str:
    return separator.join(go_text(item, True) for item in items or [])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": _join,
    "json": to_json,
    "le": lambda a, b: a <= b,
    "len": _length,
    "lower": lambda text: str(text).lower(),
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: not _equal(a, b),
    "not": lambda value: not truth(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "split": lambda text, separator: str(text).split(separator) if separator else list(str(text)),
    "title": lambda text: re.sub(r"(^|[^\w])(\w)", lambda m: m[1] + m[2].upper(), str(text)),
    "truncate": lambda text, length: str(text)[:length],
    "upper": lambda text: str(text).upper(),
}
