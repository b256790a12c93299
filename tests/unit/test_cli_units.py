"""Sizes, durations, ages, times."""

from __future__ import annotations

import pytest

from sampan.cli.moment import api_time, nanoseconds, seconds
from sampan.cli.units import ago, binary_size, decimal_size, human_duration, parse_bytes, parse_decimal, parse_duration


@pytest.mark.parametrize(("text", "size"), [
    ("512", 512), ("1k", 1024), ("1K", 1024), ("1kb", 1024), ("1KiB", 1024), ("1.5g", 3 << 29),
    ("2 MB", 2 << 20), ("-1", -1), (".5k", 512), ("10b", 10),
])
def test_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "-2", "1ib", "1 2", "1,5k", "k"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "value"), [
    ("1s", 10**9), ("1m30s", 90 * 10**9), ("250ms", 250 * 10**6), ("1.5h", 5400 * 10**9), ("0", 0), ("-2s", -2 * 10**9),
    ("10us", 10_000), ("3ns", 3),
])
def test_durations(text: str, value: int) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "3", "s", "1x", "1s2", "1 s", "--1s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "value"), [
    ("0.5", 5 * 10**8), ("2", 2 * 10**9), (".25", 25 * 10**7), ("1.000000001", 10**9 + 1),
])
def test_decimals(text: str, value: int) -> None:
    assert parse_decimal(text) == value


@pytest.mark.parametrize("text", ["", ".", "1e3", "0.x", "1.0000000001"])
def test_no_decimals(text: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        parse_decimal(text)


@pytest.mark.parametrize(("size", "digits", "text"), [
    (0, 3, "0B"), (999, 3, "999B"), (1000, 3, "1kB"), (1913, 3, "1.91kB"), (1_984_162, 3, "1.98MB"),
    (77_800_000, 3, "77.8MB"), (1_984_162, 4, "1.984MB"), (5 * 10**12, 3, "5TB"),
])
def test_decimal_sizes(size: int, digits: int, text: str) -> None:
    assert decimal_size(size, digits) == text


@pytest.mark.parametrize(("size", "text"), [
    (0, "0B"), (720896, "704KiB"), (25276502016, "23.54GiB"), (1 << 20, "1MiB"), (1023, "1023B"),
])
def test_binary_sizes(size: int, text: str) -> None:
    assert binary_size(size) == text


@pytest.mark.parametrize(("age", "text"), [
    (0.2, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
    (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (7200, "2 hours"), (86400, "24 hours"),
    (172800, "2 days"), (86400 * 15, "2 weeks"), (86400 * 70, "2 months"), (86400 * 800, "2 years"),
])
def test_ages(age: float, text: str) -> None:
    assert human_duration(age) == text
    assert ago(1000.0, 1000.0 + age) == f"{text} ago"


def test_times() -> None:
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert nanoseconds("1970-01-01T01:00:00+01:00") == 0
    assert nanoseconds("2026-11-23 18:48:02 +0000") == nanoseconds("2026-11-23T18:48:02Z")
    assert nanoseconds("yesterday") is None
    assert seconds("0001-01-01T00:00:00Z") == 0.0
    assert api_time("12.5") == "12.5"
    assert api_time("1970-01-01T00:00:01Z") == "1.000000000"
    assert float(api_time("10m")) > 1_000_000_000
    with pytest.raises(ValueError, match="neither"):
        api_time("soon")
