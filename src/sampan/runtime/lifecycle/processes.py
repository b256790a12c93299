"""The processes of a container, as the host sees them."""

from __future__ import annotations

from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.lifecycle.records import Entry


def pids(entry: Entry) -> list[int]:
    """All of its processes, ascending, by its cgroup; without one its first process alone. Empty once it has ended."""
    record = entry.read()
    group = entry.group(record)
    if group is not None:
        return sorted(group.procs())
    return [record.pid] if record.pid and status.is_alive(record) else []
