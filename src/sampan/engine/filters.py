"""Docker's filters: `{key: [values]}`; values of one key are alternatives, keys are joined by "and".

The matching rules are those of the Engine API's list and prune operations: `match` (exact or regular expression
in Docker; here exact or prefix, because a name from outside must not become a pattern that backtracks).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sampan.errors import InvalidArgument

Filters = Mapping[str, Sequence[str]]

TRUE = frozenset({"1", "true", "True", "TRUE", "t", "T"})
FALSE = frozenset({"0", "false", "False", "FALSE", "f", "F"})


def check(filters: Filters, accepted: Collection[str]) -> None:
    """Raises InvalidArgument for the first key (in sorted order) that the operation does not know."""
    for key in sorted(filters):
        if key not in accepted:
            raise InvalidArgument(f"invalid filter '{key}'")


def boolean(filters: Filters, key: str, default: bool) -> bool:
    """A filter that says yes or no, such as `dangling`. Raises InvalidArgument for both at once or anything else."""
    values = filters.get(key)
    if not values:
        return default
    said = {value in TRUE for value in values}
    if len(said) != 1 or not all(value in TRUE or value in FALSE for value in values):
        raise InvalidArgument(f"invalid filter '{key}={values}'")
    return said.pop()


def exact(filters: Filters, key: str, value: str) -> bool:
    """True when the key is not filtered on, or `value` is one of the values."""
    wanted = filters.get(key)
    return not wanted or value in wanted


def prefix(filters: Filters, key: str, *candidates: str) -> bool:
    """True when the key is not filtered on, or one of the values begins one of the candidates."""
    wanted = filters.get(key)
    return not wanted or any(candidate.startswith(value) for value in wanted for candidate in candidates)


def labels(filters: Filters, present: Mapping[str, str] | None, key: str = "label") -> bool:
    """True when *all* label filters (`name` or `name=value`) hold. For `label!` none of them may hold."""
    wanted = filters.get(key)
    if not wanted:
        return True
    held = [_holds(value, present or {}) for value in wanted]
    return not any(held) if key.endswith("!") else all(held)


def _holds(wanted: str, present: Mapping[str, str]) -> bool:
    name, separator, value = wanted.partition("=")
    return name in present and (not separator or present[name] == value)
