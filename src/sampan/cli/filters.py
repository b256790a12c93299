"""`--filter name=value` of the list commands."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.cli.flags import Option, checked_list


def _check(text: str) -> str:
    if text and "=" not in text:
        raise ValueError(f"invalid filter '{text}': use NAME=VALUE")
    return text


FILTER = Option(
    "-f", "--filter", kind=checked_list("filter", _check), help="Filter output based on conditions provided"
)


def to_query(filters: Sequence[str]) -> dict[str, list[str]] | None:
    """The API's form: {"name": ["value", …]}; None when there is none."""
    result: dict[str, list[str]] = {}
    for text in filters:
        name, _, value = text.partition("=")
        if name.strip():
            result.setdefault(name.strip().lower(), []).append(value.strip())
    return result or None
