"""A bundle that differs from `runc spec`'s default in one thing. The table is in variants_*.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from peers.bundle import Bundle, Change

BOTH = ("runc", "crun")


def default(bundle: Bundle) -> None:
    pass


@dataclass(frozen=True)
class Variant:
    name: str
    change: Change = default
    peers: tuple[str, ...] = BOTH
    """Which of the others can run it: Debian 12 has runc 1.1 and crun 1.8."""
    base: Change = default
    """What it changes; matters where runc cannot run it: there runc's view of the base counts."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """Facts beside the base's, where none of the others can run it."""

    def __str__(self) -> str:
        return self.name


VARIANTS: list[Variant] = [Variant("default")]


def variant(*peers: str, base: Change = default) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        VARIANTS.append(Variant(change.__name__, change, peers or BOTH, base))
        return change

    return keep


def expected(facts: Mapping[str, str]) -> Callable[[Change], Change]:
    def keep(change: Change) -> Change:
        VARIANTS.append(Variant(change.__name__, change, (), expected=facts))
        return change

    return keep
