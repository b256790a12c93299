"""ARG and `--build-arg`: which arguments an instruction sees, and which were of use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PREDEFINED = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Usable without an ARG; they neither appear in the history nor count for the cache unless an ARG names them."""


class Arguments:
    """The arguments of one build. `given` is `--build-arg`; a value of None means: take it away.

    `platform` are the values of TARGETPLATFORM and its like: they exist before the first FROM without being declared.
    """

    def __init__(self, given: Mapping[str, str | None], platform: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._global: dict[str, str | None] = dict(platform)
        self._declared: dict[str, str | None] = {}
        self._used: set[str] = set()

    def declare_global(self, name: str, default: str | None) -> None:
        """An ARG before the first FROM. FROM lines see it; a stage only when it declares it again."""
        if default is not None or name not in self._global:
            self._global[name] = default
        self._used.add(name)

    def enter_stage(self) -> None:
        """A new stage knows no arguments but the predefined."""
        self._declared = {}

    def declare(self, name: str, default: str | None) -> None:
        self._declared[name] = default
        self._used.add(name)

    def globals(self) -> dict[str, str]:
        """What FROM lines and global ARGs may use."""
        return self._values(self._global)

    def visible(self, environment: Iterable[str] = ()) -> dict[str, str]:
        """The arguments a stage's instruction sees; names that ENV has set are ENV's."""
        values = self._values(self._declared)
        for name in PREDEFINED - values.keys():
            value = self._given.get(name)
            if value is not None:
                values[name] = value
        for name in environment:
            values.pop(name, None)
        return values

    def counted(self, visible: Mapping[str, str]) -> list[str]:
        """Those of `visible` that belong to a RUN's cache key and history, as sorted `name=value`."""
        return sorted(f"{name}={value}" for name, value in visible.items() if self._counts(name))

    def unused(self) -> list[str]:
        """`--build-arg`s that no ARG asked for."""
        return sorted(name for name in self._given if self._counts(name) and name not in self._used)

    def _counts(self, name: str) -> bool:
        return name in self._used or name not in PREDEFINED

    def _values(self, declared: Mapping[str, str | None]) -> dict[str, str]:
        values = {}
        for name, default in declared.items():
            inherited = self._global.get(name) if default is None else default
            value = self._given.get(name, inherited)
            if value is not None:
                values[name] = value
        return values
