"""Operations on when the process runs, on which CPUs, and where its memory is (config.md, config-linux.md)."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.linux import mempolicy, number_list, scheduler
from sampan.runtime.operation import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci

_REALTIME = ("SCHED_FIFO", "SCHED_RR")


@dataclass(frozen=True)
class SetScheduler:
    """sched_setattr(2). Real-time policies and lower nice values need CAP_SYS_NICE: before the user is changed.

    A thread under SCHED_DEADLINE cannot fork (EAGAIN): after everything that forks.
    """

    scheduler: oci.Scheduler

    def describe(self) -> str:
        return f"set the scheduler to {self.scheduler.policy}"

    def apply(self, stage: Stage) -> None:
        wanted = self.scheduler
        flags = 0
        for name in wanted.flags:
            flags |= scheduler.FLAGS[name]
        scheduler.set_attributes(
            scheduler.POLICIES[wanted.policy], flags, wanted.nice, wanted.priority, wanted.runtime, wanted.deadline,
            wanted.period,
        )


def check_scheduler(wanted: oci.Scheduler) -> None:
    """Raises InvalidArgument for what sched_setattr(2) has no word for. Its ranges are the kernel's to check."""
    if wanted.policy not in scheduler.POLICIES:
        known = ", ".join(scheduler.POLICIES)
        raise InvalidArgument(f"scheduler policy {wanted.policy!r} is not one of {known}")
    for name in wanted.flags:
        if name not in scheduler.FLAGS:
            raise InvalidArgument(f"unknown scheduler flag: {name!r}")
    if not -20 <= wanted.nice <= 19:
        raise InvalidArgument(f"invalid scheduler.nice: {wanted.nice}: it goes from -20 to 19")
    if not 0 <= wanted.priority <= 99:
        raise InvalidArgument(f"invalid scheduler.priority: {wanted.priority}: it goes from 0 to 99")
    if wanted.priority and wanted.policy not in _REALTIME:
        raise InvalidArgument("scheduler.priority can only be specified for SCHED_FIFO and SCHED_RR")
    times = (wanted.runtime, wanted.deadline, wanted.period)
    if any(times) and wanted.policy != "SCHED_DEADLINE":
        raise InvalidArgument("scheduler runtime, deadline and period can only be specified for SCHED_DEADLINE")
    if any(not 0 <= time < 1 << 63 for time in times):
        raise InvalidArgument("scheduler runtime, deadline and period are nanoseconds, below 2^63")


@dataclass(frozen=True)
class SetIOPriority:
    """ioprio_set(2). IOPRIO_CLASS_RT needs CAP_SYS_ADMIN or CAP_SYS_NICE."""

    io_priority: oci.IOPriority

    def describe(self) -> str:
        return f"set the I/O priority to {self.io_priority.io_class} {self.io_priority.priority}"

    def apply(self, stage: Stage) -> None:
        scheduler.set_io_priority(scheduler.IO_CLASSES[self.io_priority.io_class], self.io_priority.priority)


def check_io_priority(wanted: oci.IOPriority) -> None:
    """Raises InvalidArgument for an unknown class or a priority that is not 0 to 7."""
    if wanted.io_class not in scheduler.IO_CLASSES:
        raise InvalidArgument(f"invalid ioPriority.class {wanted.io_class!r}: {', '.join(scheduler.IO_CLASSES)}")
    if not 0 <= wanted.priority < scheduler.IO_PRIORITIES:
        raise InvalidArgument(f"invalid ioPriority.priority: {wanted.priority}: it goes from 0 to 7")


@dataclass(frozen=True)
class SetCpuAffinity:
    """sched_setaffinity(2) by a CPU list ("0-3,7"); "" is every CPU that the cgroup allows.

    Since Linux 6.2 the kernel remembers what a process asked for when its cpuset changes: without a new word, the
    affinity that the runtime was started with (taskset, systemd's CPUAffinity=) would stay with the container.
    """

    cpus: str = ""

    def describe(self) -> str:
        return f"run on CPUs {self.cpus}" if self.cpus else "run on all CPUs of the cgroup"

    def apply(self, stage: Stage) -> None:
        scheduler.set_affinity(check_cpus(self.cpus) if self.cpus else None)


def check_cpus(cpus: str) -> frozenset[int]:
    """The numbers of a CPU list. Raises InvalidArgument."""
    return number_list.parse(cpus, scheduler.MAX_CPUS, "the CPU list")


@dataclass(frozen=True)
class SetMemoryPolicy:
    """set_mempolicy(2); the program inherits it over execve."""

    policy: oci.MemoryPolicy

    def describe(self) -> str:
        return f"set the memory policy to {self.policy.mode} {self.policy.nodes}".rstrip()

    def apply(self, stage: Stage) -> None:
        mode = mempolicy.MODES[self.policy.mode]
        for name in self.policy.flags:
            mode |= mempolicy.FLAGS[name]
        mempolicy.set_policy(mode, _nodes(self.policy))


def check_memory_policy(policy: oci.MemoryPolicy) -> None:
    """Raises InvalidArgument. Which nodes there are, and which go with a mode, the kernel checks (EINVAL)."""
    if policy.mode not in mempolicy.MODES:
        raise InvalidArgument(f"invalid memoryPolicy.mode {policy.mode!r}: {', '.join(mempolicy.MODES)}")
    for name in policy.flags:
        if name not in mempolicy.FLAGS:
            raise InvalidArgument(f"invalid memoryPolicy.flags {name!r}: {', '.join(mempolicy.FLAGS)}")
    nodes = _nodes(policy)
    if policy.mode in mempolicy.WITHOUT_NODES and nodes:
        raise InvalidArgument(f"memoryPolicy: {policy.mode} takes no nodes")
    if policy.mode not in (*mempolicy.WITHOUT_NODES, "MPOL_PREFERRED") and not nodes:
        raise InvalidArgument(f"memoryPolicy: {policy.mode} needs nodes")


def _nodes(policy: oci.MemoryPolicy) -> frozenset[int]:
    if not policy.nodes:
        return frozenset()
    return number_list.parse(policy.nodes, mempolicy.MAX_NODES, "memoryPolicy.nodes")
