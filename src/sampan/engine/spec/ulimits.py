"""Ulimits → resource limits (getrlimit(2))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.oci.runtime import Rlimit

NAMES: Final = frozenset((
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
))
_UNLIMITED = (1 << 64) - 1


def make(host_config: Mapping[str, Any]) -> list[Rlimit]:
    """-1 is unlimited. Raises InvalidArgument for a name that is none, or a soft limit above the hard one."""
    found: dict[str, Rlimit] = {}
    for entry in host_config.get("Ulimits") or ():
        name = str(entry.get("Name") or "").lower()
        if name not in NAMES:
            raise InvalidArgument(f"invalid ulimit type: {name[:64]}")
        soft, hard = _value(entry.get("Soft", 0), name), _value(entry.get("Hard", 0), name)
        if soft > hard:
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {entry.get('Soft', 0)} > "
                f"{entry.get('Hard', 0)}"
            )
        found[name] = Rlimit(type=f"RLIMIT_{name.upper()}", soft=soft, hard=hard)
    return list(found.values())


def _value(value: int, name: str) -> int:
    if value == -1:
        return _UNLIMITED
    if not 0 <= value <= _UNLIMITED:
        raise InvalidArgument(f"invalid value for ulimit {name}: {value}")
    return value
