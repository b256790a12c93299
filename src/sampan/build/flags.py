"""The `--name=value` flags of an instruction."""

from __future__ import annotations

from collections.abc import Iterable

from sampan.errors import InvalidArgument

TEXT, BOOLEAN, LIST = "text", "boolean", "list"


class Flags:
    """What was given, checked against the flags an instruction knows: `known` maps names to TEXT, BOOLEAN or LIST.

    Raises InvalidArgument.
    """

    def __init__(self, given: Iterable[str], known: dict[str, str]) -> None:
        self._values: dict[str, list[str]] = {}
        for flag in given:
            name, equals, value = flag[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                hint = f" (known are {', '.join('--' + other for other in known)})" if known else " (there are none)"
                raise InvalidArgument(f"unknown flag: --{name}{hint}")
            if name in self._values and kind != LIST:
                raise InvalidArgument(f"duplicate flag specified: --{name}")
            if kind == BOOLEAN:
                value = value.lower() if equals else "true"
                if value not in ("true", "false"):
                    raise InvalidArgument(f"expecting boolean value for flag --{name}, not: {value}")
            elif not equals:
                raise InvalidArgument(f"missing a value on flag: --{name}")
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        values = self._values.get(name)
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        return self._values.get(name) == ["true"]

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))
