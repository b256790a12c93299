"""The init stage's work is a list of operations; this is what an operation is and what it works on."""

from __future__ import annotations

import os
import stat
import time

from sampan.lean import structs
from sampan.lean.record import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol
else:
    Protocol = object


class Step(structs.Struct):
    """One operation of a start, as the flight recorder has it; `micros` is how long it took."""

    name: str
    detail: str
    micros: int
    error: str = ""


class Report(structs.Struct):
    """What an init stage tells of its work: cgroup directories by controller, warnings, timed operations."""

    cgroups: dict[str, str]
    warnings: list[str] = []
    steps: list[Step] = []


class Recorder:
    """The flight recorder: what was done, and the microseconds since the last thing that was."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._begin = time.perf_counter_ns()

    def done(self, name: str, detail: str) -> None:
        now = time.perf_counter_ns()
        self.steps.append(Step(name, detail, (now - self._begin) // 1000))
        self._begin = now


@dataclass
class Stage:
    """What the init stage has in hand while it works; every descriptor is close-on-exec.

    `root` is the container's root (a mount's fd), `proc` its procfs, `devpts` its pty file system; -1 before they are.
    """

    root: int = -1
    proc: int = -1
    devpts: int = -1
    null: int = -1
    empty: int = -1
    shared: bool = False  # mounts may be peers of the host's (rootfsPropagation); the opposite: private
    private: bool = False
    readonly_later: list[int] = field(default_factory=list)  # mounts that become read-only once all is in place
    warnings: list[str] = field(default_factory=list)

    def null_device(self) -> int:
        """The host's /dev/null by descriptor, verified to be it (CVE-2025-31133). Only before the root is entered."""
        if self.null < 0:
            self.null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            status = os.fstat(self.null)
            if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
                raise OSError(22, "is not the null device", "/dev/null")
        return self.null


class Operation(Protocol):
    """One act of the init stage. `apply` raises OSError with the path or name it was about."""

    def describe(self) -> str: ...
    def apply(self, stage: Stage) -> None: ...


class OperationFailed(Exception):
    """An operation of the plan failed: says which, on what, and the kernel's error."""

    def __init__(self, operation: Operation, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else ""
        words = f"{error.strerror} ({reason})" if reason and error.strerror != reason else reason or str(error)
        about = f" {error.filename}:" if error.filename and str(error.filename) not in operation.describe() else ""
        super().__init__(f"{operation.describe()}:{about} {words}")
        self.errno = error.errno


def perform(plan: Sequence[Operation], stage: Stage, recorder: Recorder) -> None:
    """Apply a plan in order, recording each operation. Raises OperationFailed at the first that fails."""
    for operation in plan:
        try:
            operation.apply(stage)
        except OSError as error:
            raise OperationFailed(operation, error) from error
        recorder.done(type(operation).__name__, operation.describe())
