"""A time namespace of one's own: time_namespaces(7)."""

from __future__ import annotations

import os

from sampan.lean.record import dataclass, field
from sampan.linux import clone
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class NewTimeNamespace:
    """Make one, set its clocks while it is empty, enter it. `offsets`: clock → {"secs", "nanosecs"}.

    Comes before our uid changes: the file belongs to whoever the process was (proc(5), "dumpable").
    """

    offsets: dict[str, dict[str, int]] = field(default_factory=dict)

    def describe(self) -> str:
        clocks = ", ".join(f"{clock} {offset.get('secs', 0):+d} s" for clock, offset in self.offsets.items())
        return f"new time namespace{': ' + clocks if clocks else ''}"

    def apply(self, stage: Stage) -> None:
        clone.unshare(clone.NEWTIME)
        lines = [f"{clock} {it.get('secs', 0)} {it.get('nanosecs', 0)}\n" for clock, it in self.offsets.items()]
        if lines:
            path = "/proc/self/timens_offsets"
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, "".join(lines).encode())
            except OSError as error:
                reason = "a clock would be below 0 or too far ahead"
                raise OSError(error.errno, reason, path) from error
            finally:
                os.close(fd)
        fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            clone.setns(fd, clone.NEWTIME)
        finally:
            os.close(fd)
