"""Timestamps and durations as the docker command sends them."""

from __future__ import annotations

import pytest

from sampan.engine import timestamps
from sampan.engine.timestamps import SECOND
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(("text", "expected"), [
    ("0", 0),
    ("1700000000", 1_700_000_000 * SECOND),
    ("1700000000.5", 1_700_000_000 * SECOND + SECOND // 2),
    ("1700000000.000000001", 1_700_000_000 * SECOND + 1),
    ("10m", 1000 * SECOND - 600 * SECOND),
    ("1h2m0.5s", 1000 * SECOND - 3720 * SECOND - SECOND // 2),
    ("1970-01-01T00:01:00Z", 60 * SECOND),
    ("1970-01-01T01:01:00.25+01:00", 60 * SECOND + SECOND // 4),
])
def test_parse(text: str, expected: int) -> None:
    assert timestamps.parse(text, now=1000 * SECOND) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "1.2.3", "2024-13-01", "10 minutes", "9" * 100, "1970-01-01T99:00"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid timestamp"):
        timestamps.parse(text)


def test_rfc3339_and_back() -> None:
    assert timestamps.rfc3339(0) == "1970-01-01T00:00:00Z"
    assert timestamps.rfc3339(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert timestamps.parse(timestamps.rfc3339(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_789
