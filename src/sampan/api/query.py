"""The query string as Docker reads it: its booleans, numbers, filters."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from sampan.errors import InvalidArgument

_FALSE = frozenset({"", "0", "no", "false", "none"})  # everything else is true: moby's BoolValue
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_MAX_FIELDS = 4096
_MAX_FILTER_VALUES = 4096


class Query:
    """Decoded parameters; where one is repeated the first counts, `all` gives every one (`names`, `changes`)."""

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        if not text:
            return
        try:
            for name, value in parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS):
                self._values.setdefault(name, []).append(value)
        except ValueError as error:
            raise InvalidArgument(f"invalid query string: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return values[0] if values else default

    def optional(self, name: str) -> str | None:
        """The text, None when absent or empty."""
        return self.text(name) or None

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """Docker's boolean: absent is the default; "", 0, no, false, none (any case) are false; the rest is true."""
        values = self._values.get(name)
        return default if values is None else values[0].strip().lower() not in _FALSE

    def integer(self, name: str) -> int | None:
        """A number, None when absent or empty. Raises InvalidArgument."""
        value = self.text(name)
        if not value:
            return None
        if not _INTEGER.fullmatch(value):
            raise InvalidArgument(f"invalid value for {name}: {value!r} is not a number")
        return int(value)

    def json(self, name: str) -> Any:
        """A parameter that holds JSON (`filters`, `buildargs`, `labels`), None when absent or empty."""
        value = self.text(name)
        if not value:
            return None
        try:
            return msgspec.json.decode(value.encode())
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgument(f"invalid JSON in parameter {name}: {error}") from error

    def filters(self) -> dict[str, list[str]]:
        """`filters` in both wire forms: `{key: {value: true}}` and, before API 1.22, `{key: [value]}`."""
        return parse_filters(self.json("filters"))


def parse_filters(value: Any) -> dict[str, list[str]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidArgument("invalid filter: not a JSON object")
    filters = {key: _filter_values(key, values) for key, values in value.items()}
    return {key: values for key, values in filters.items() if values}


def _filter_values(key: str, values: Any) -> list[str]:
    if isinstance(values, dict) and all(isinstance(on, bool) for on in values.values()):
        chosen = [text for text, on in values.items() if on]
    elif isinstance(values, list) and all(isinstance(text, str) for text in values):
        chosen = values
    else:
        raise InvalidArgument(f"invalid filter '{key}': neither a map of booleans nor a list of texts")
    if len(chosen) > _MAX_FILTER_VALUES:
        raise InvalidArgument(f"invalid filter '{key}': more than {_MAX_FILTER_VALUES} values")
    return chosen
