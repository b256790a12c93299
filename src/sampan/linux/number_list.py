"""Lists of numbers as the kernel writes CPUs and memory nodes: "0-3,7" (cpuset(7), "List format")."""

from __future__ import annotations

from sampan.errors import InvalidArgument

_REPEATED = 4


def parse(text: str, limit: int, what: str) -> frozenset[int]:
    """The numbers of a list, all below `limit`: one large number must not cost memory (CVE-2018-20699).

    Raises InvalidArgument, naming `what`, for an empty list, anything but numbers, ranges and commas, or a range that
    runs backwards, for one that says all of them again and again: a list of megabytes would cost minutes.
    """
    found: set[int] = set()
    said = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = _number(first), _number(last if dash else first)
        if low is None or high is None or low > high:
            raise InvalidArgument(f"{what} {text[:80]!r} is not a list of numbers like \"0-3,7\"")
        if high >= limit:
            raise InvalidArgument(f"{what} {text[:80]!r} is out of range: numbers go from 0 to {limit - 1}")
        said += high - low + 1
        if said > _REPEATED * limit:
            raise InvalidArgument(f"{what} {text[:80]!r} names the same numbers over and over")
        found.update(range(low, high + 1))
    return frozenset(found)


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
