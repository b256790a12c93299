"""Points in time as Docker writes and reads them. Inside they are nanoseconds since the epoch, as `time.time_ns()`."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from sampan.errors import InvalidArgument

SECOND = 1_000_000_000
ZERO = "0001-01-01T00:00:00Z"  # Go's zero time: "has not happened"
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_MAX_TEXT = 64  # no form is longer; keeps the expressions below cheap on hostile input
_UNIX = re.compile(r"-?\d{1,12}(?:\.(\d{1,9}))?")
_PART = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?(ns|us|µs|ms|s|m|h)")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:\d\d)?")


def rfc3339(nanoseconds: int) -> str:
    """`2024-05-01T10:00:00.123456789Z`; trailing zeros of the fraction are dropped as Go's RFC3339Nano does."""
    seconds, rest = divmod(nanoseconds, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{whole}{fraction}Z"


def parse(text: str, now: int | None = None) -> int:
    """A moment from Unix seconds (`1700000000.5`), a duration before now (`1h30m`) or RFC 3339.

    A date without an offset is the host's local time, as in the docker command. Raises InvalidArgument.
    """
    if len(text) > _MAX_TEXT:
        raise InvalidArgument(f"invalid timestamp of {len(text)} characters")
    if match := _UNIX.fullmatch(text):
        sign = -1 if text.startswith("-") else 1
        return sign * (abs(int(text.split(".")[0])) * SECOND + int((match[1] or "0").ljust(9, "0")))
    if (ago := duration(text)) is not None:
        return (time.time_ns() if now is None else now) - ago
    if match := _RFC3339.fullmatch(text):
        return _moment(text, match)
    raise InvalidArgument(f'invalid timestamp "{text}": use Unix seconds, a duration such as 10m, or RFC 3339')


def duration(text: str) -> int | None:
    """Go's duration notation (`1h2m0.5s`) in nanoseconds; None if `text` is something else."""
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return None
    return sum(
        int(part[1]) * _UNITS[part[3]] + int((part[2] or "0").ljust(9, "0")) * _UNITS[part[3]] // SECOND
        for part in parts
    )


def _moment(text: str, match: re.Match[str]) -> int:
    day, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(
            f"{day}T{minute or '00:00'}:{second or '00'}{'+00:00' if offset == 'Z' else offset or ''}"
        )
        return int(moment.timestamp()) * SECOND + int((fraction or "0").ljust(9, "0"))
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f'invalid timestamp "{text}": {error}') from error
