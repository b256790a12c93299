"""Restart policies: should a container that has ended start again, and how long until then."""

from __future__ import annotations

from typing import Any

from sampan.engine.record import Record
from sampan.errors import InvalidArgument

NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE = "no", "always", "unless-stopped", "on-failure"
_FIRST = 0.1  # seconds
_LONGEST = 60.0
_STABLE = 10.0  # a container that ran this long begins again with the first delay


def check(policy: dict[str, Any] | None, auto_remove: bool = False) -> dict[str, Any]:
    """The policy in Docker's normal form. Raises InvalidArgument with Docker's words."""
    name = str((policy or {}).get("Name") or NO)
    count = (policy or {}).get("MaximumRetryCount") or 0
    if name not in (NO, ALWAYS, UNLESS_STOPPED, ON_FAILURE):
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if not isinstance(count, int):
        raise InvalidArgument("invalid restart policy: maximum retry count is not a number")
    if count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if count and name != ON_FAILURE:
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and name != NO:
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    return {"Name": name, "MaximumRetryCount": count}


def wanted(record: Record) -> bool:
    """Should the container, which has just ended, start again?"""
    policy = record.host_config.get("RestartPolicy") or {}
    if record.stopped_by_user:
        return False
    name, most = policy.get("Name"), policy.get("MaximumRetryCount") or 0
    if name == ON_FAILURE:
        return record.exit_code != 0 and (not most or record.restart_count < most)
    return name in (ALWAYS, UNLESS_STOPPED)


def wanted_by_new_engine(record: Record) -> bool:
    """Should an engine that has just started start this container, which is not running?

    `always` includes those a user had stopped, as with Docker; a container that never ran is left alone.
    """
    name = (record.host_config.get("RestartPolicy") or {}).get("Name")
    has_run = not record.started_at.startswith("0001")
    return has_run and (name == ALWAYS or wanted(record))


def delay(previous: float, ran: float) -> float:
    """Seconds until the next start, from the delay before the last one (0.0: none) and the seconds it ran."""
    if previous <= 0 or ran >= _STABLE:
        return _FIRST
    return min(previous * 2, _LONGEST)
