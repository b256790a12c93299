"""Durations as Go writes them: "1m30s", "500ms", "-1.5h"."""

from __future__ import annotations

import re
from decimal import Decimal

from sampan.errors import InvalidArgument

_PART = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}
_MAX = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds. "0" needs no unit. Raises InvalidArgument with Go's words."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits == "0":
        return 0
    total = 0
    at = 0
    while at < len(digits):
        match = _PART.match(digits, at)
        if match is None:
            break
        total += int(Decimal(match[1]) * _NANOSECONDS[match[2]])
        at = match.end()
    if not digits or at != len(digits) or total > _MAX:
        raise InvalidArgument(f'time: invalid duration "{text[:60]}"')
    return -total if text.startswith("-") else total
