"""Sizes, durations and ages as Docker reads and prints them. Pure functions."""

from __future__ import annotations

import re

BINARY_SUFFIXES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
NANOSECONDS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?([a-zA-Z]*)", re.ASCII)
DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
DECIMAL = re.compile(r"[+-]?(\d+)(?:\.(\d{0,9}))?|[+-]?\.(\d{1,9})", re.ASCII)


def parse_bytes(text: str) -> int:
    """A size in bytes: "512m", "1.5GiB", "-1". 1024-based, as Docker's memory options. Raises ValueError."""
    if text == "-1":
        return -1
    match = SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    suffix = match[2].lower()
    unit = suffix.removesuffix("ib") if suffix.endswith("ib") else suffix.removesuffix("b")
    if suffix == "ib" or unit not in BINARY_SUFFIXES:
        raise ValueError(f"invalid suffix: '{match[2]}'")
    return int(float(match[1]) * BINARY_SUFFIXES[unit])


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration: "1m30s", "250ms", "0". Raises ValueError."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total, position = 0.0, 0
    for match in DURATION_PART.finditer(rest):
        if match.start() != position:
            break
        total += float(match[1]) * NANOSECONDS[match[2]]
        position = match.end()
    if not rest or position != len(rest):
        reason = "missing unit in duration" if rest.replace(".", "", 1).isdigit() else "invalid duration"
        raise ValueError(f'{reason} "{text}" (as in 30s, 1m30s, 2h)')
    return sign * round(total)


def parse_decimal(text: str) -> int:
    """A decimal number in billionths: "0.5" → 500_000_000 (Docker's NanoCpus). Raises ValueError."""
    match = DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a decimal number of at most nine places')
    whole, fraction = match[1] or "0", match[2] or match[3] or ""
    value = int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    return -value if text.startswith("-") else value


def _significant(value: float, units: tuple[str, ...], base: float, digits: int) -> str:
    index = 0
    while value >= base and index < len(units) - 1:
        value /= base
        index += 1
    return f"{value:.{digits}g}" + units[index] if value < 10**digits else f"{value:.0f}{units[index]}"


DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def decimal_size(size: float, digits: int = 4) -> str:
    """Powers of 1000 with `digits` significant digits: 77.8MB. Docker's image and network sizes."""
    return _significant(float(size), DECIMAL_UNITS, 1000.0, digits)


def binary_size(size: float) -> str:
    """Powers of 1024 with four significant digits: 15.32MiB. Docker's memory sizes."""
    return _significant(float(size), BINARY_UNITS, 1024.0, 4)


def human_duration(seconds: float) -> str:
    """About how long: "Less than a second", "3 minutes", "About an hour", "2 weeks"."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    return _long_duration(hours)


def _long_duration(hours: int) -> str:
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def ago(then: float, now: float) -> str:
    """The age of a moment (both in seconds since the epoch): "2 minutes ago"."""
    return f"{human_duration(max(0.0, now - then))} ago"
