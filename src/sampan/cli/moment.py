"""Times of the API: RFC 3339 with nanoseconds, and what --since and --until accept."""

from __future__ import annotations

import re
import time
from calendar import timegm

from sampan.cli.units import parse_duration

STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?\s?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


def nanoseconds(stamp: str) -> int | None:
    """Since the epoch, of an RFC 3339 stamp (a date will do; without a zone it is local); None if it is not one."""
    match = STAMP.fullmatch(stamp.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    parts = (int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    if zone is None:
        seconds = int(time.mktime((*parts, 0, 0, -1)))
    else:
        seconds = timegm((*parts, 0, 0, 0))
        if zone != "Z":
            digits = zone[1:].replace(":", "")
            offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
            seconds += -offset if zone[0] == "+" else offset
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def seconds(stamp: str) -> float:
    """Since the epoch, of the API's stamp; 0.0 for none or Docker's zero time (year 1)."""
    value = nanoseconds(stamp)
    return 0.0 if value is None or value < 0 else value / 1e9


def api_time(text: str) -> str:
    """What --since and --until mean, as the API's seconds.nanoseconds: a stamp, seconds, or a duration before now.

    Raises ValueError.
    """
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        return text
    value = nanoseconds(text)
    if value is None:
        try:
            value = time.time_ns() - parse_duration(text)
        except ValueError:
            raise ValueError(f'"{text}" is neither a time (2013-01-02T13:23:37Z) nor a duration (10m)') from None
    return f"{value // 1_000_000_000}.{value % 1_000_000_000:09d}"


def rfc3339(stamp_seconds: float) -> str:
    """2026-11-23T18:48:02+01:00, with Z for UTC."""
    local = time.localtime(stamp_seconds)
    zone = time.strftime("%z", local)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def created_at(stamp_seconds: float) -> str:
    """As lists print a full time: 2026-11-23 18:48:02 +0000 UTC."""
    local = time.localtime(stamp_seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", local)
