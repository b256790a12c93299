"""Everything of the spec about the process and the kernel's settings, as operations: where each belongs in the order.

    runtime       check(spec) → warnings                         before anything is made; raises InvalidArgument, …
                  netdevices.move(…)                             the network namespace is there; hooks find them in it
    init stage    first_operations(spec, ID)                     first of all: on the host's /proc and keyring
                  JoinCgroup, affinity_operations(…, "final")    behind joining the cgroup: its cpuset decides
                  namespaces, mounts, devices; sysctls           plan.make, up to pivot_root
                  cwd, session, terminal, umask, stdio           init._become
                  {"ready"}; {"start"}
                  process_operations(…)                          limits, labels, user, capabilities, seccomp
                  startContainer hooks; execve                   as the program: its user, below its filter
    exec          first_operations, affinity_operations(…, "initial"), JoinCgroup, affinity_operations(…, "final"),
                  EnterNamespaces, …; then as the init stage from its cwd on, without waiting and hooks
"""

from __future__ import annotations

from sampan.errors import InvalidArgument, Unsupported
from sampan.runtime import identity, labels, mount_entries, scheduling, seccomp, sysctl
from sampan.runtime.identity import BecomeUser, NoNewPrivileges, SetPersonality, SetRlimits
from sampan.runtime.kernel import JoinNamespace, SetOomScore
from sampan.runtime.keyrings import JoinSessionKeyring
from sampan.runtime.scheduling import SetCpuAffinity, SetIOPriority, SetMemoryPolicy, SetScheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from sampan.linux import capability
    from sampan.linux.seccomp import Filter
    from sampan.oci import runtime as oci
    from sampan.runtime.operation import Operation
    from sampan.runtime.users import Identity


def check(spec: oci.Spec, shared: AbstractSet[str] = frozenset()) -> list[str]:
    """Whether the host and the kernel have what a spec asks of them, before anything is made. `shared`: the kinds of
    namespaces that the spec joins and that are the runtime's own.

    Returns warnings. Raises InvalidArgument for what can never work, Unsupported for what this host has not.
    """
    linux, process = spec.linux, spec.process
    if linux is None or process is None:
        raise InvalidArgument("the spec has no process or no linux section")
    warnings = check_process(process) + mount_entries.check(spec.mounts)
    if linux.sysctl:
        sysctl.check(linux.sysctl, linux, shared)
    if "uts" in shared and (spec.hostname or spec.domainname):
        raise InvalidArgument("unable to set hostname without a private UTS namespace")
    if linux.mount_label:
        labels.check_selinux(linux.mount_label, "mountLabel")
    if linux.personality is not None:
        identity.check_personality(linux.personality)
    if linux.memory_policy is not None:
        scheduling.check_memory_policy(linux.memory_policy)
    if linux.seccomp is not None:
        seccomp.check_policy(linux.seccomp)
    if linux.intel_rdt is not None:
        _check_intel_rdt()
    for clock, offset in linux.time_offsets.items():
        if not 0 <= offset.get("nanosecs", 0) < 1_000_000_000:
            raise InvalidArgument(f"timeOffsets: {clock}: nanosecs is 0 to 999999999")
        if not -(1 << 63) <= offset.get("secs", 0) < 1 << 63:
            raise InvalidArgument(f"timeOffsets: {clock}: secs does not fit 64 bits")
    return warnings


def check_process(process: oci.Process) -> list[str]:
    """The same for a process alone, as `exec` has it."""
    identity.check_rlimits(process.rlimits)
    if process.apparmor_profile:
        labels.check_apparmor(process.apparmor_profile)
    if process.selinux_label:
        labels.check_selinux(process.selinux_label)
    if process.oom_score_adj is not None and not -1000 <= process.oom_score_adj <= 1000:
        raise InvalidArgument(f"oomScoreAdj {process.oom_score_adj} is out of range: it goes from -1000 to 1000")
    if process.scheduler is not None:
        scheduling.check_scheduler(process.scheduler)
    if process.io_priority is not None:
        scheduling.check_io_priority(process.io_priority)
    affinity = process.exec_cpu_affinity
    for cpus in (affinity.initial, affinity.final) if affinity is not None else ():
        if cpus:
            scheduling.check_cpus(cpus)
    return identity.unknown_capabilities(process.capabilities)


def _check_intel_rdt() -> None:
    """Nothing of it is implemented: the spec asks for an error then, never for going on without."""
    raise Unsupported("intelRdt is specified in config, but this runtime does not support Intel RDT (resctrl)")


def first_operations(
    process: oci.Process, container_id: str, new_keyring: bool = True, user_namespace: bool = False
) -> list[Operation]:
    """Before anything else, while /proc is the host's. `user_namespace`: whether the container has one of its own."""
    operations: list[Operation] = []
    if process.oom_score_adj is not None:
        operations.append(SetOomScore(process.oom_score_adj))
    if new_keyring:
        operations.append(JoinSessionKeyring(container_id, user_namespace))
    return operations


def affinity_operations(wanted: oci.ExecCPUAffinity | None, when: str) -> list[Operation]:
    """On which CPUs: `when` is "initial", before joining the cgroup, or "final", behind it.

    `wanted` is for exec alone (config.md, "Linux Process"): a container's first process, None, gets all CPUs of its
    cgroup, whatever the runtime was confined to.
    """
    if when == "initial":
        return [SetCpuAffinity(wanted.initial)] if wanted is not None and wanted.initial else []
    return [SetCpuAffinity(wanted.final if wanted is not None else "")]


def process_operations(
    process: oci.Process, identity: Identity, sets: capability.Sets | None, last_cap: int, *,
    linux: oci.Linux | None = None, filter: Filter | None = None, sync: int = -1, user_namespace: int = -1,
    before_filter: Sequence[Operation] = (),
) -> list[Operation]:
    """From the init stage's root to the program's credentials: behind it only startContainer hooks run, and execve.

    `linux`: the container's, for what exec has as well: personality, memory policy. `filter`: the compiled seccomp
    policy; one that notifies is handed over through `sync`, a SEQPACKET socket's number: see seccomp_agent.py.
    `user_namespace`: the one to enter now, by descriptor, where it was not entered before. `before_filter`: as the
    user, with no_new_privs, before a filter that may forbid it.

    Limits and scheduling need the capabilities that are lost on the way; labels need a /proc of ours.
    """
    operations: list[Operation] = []
    if process.rlimits:
        operations.append(SetRlimits(tuple(process.rlimits)))
    if process.scheduler is not None:
        operations.append(SetScheduler(process.scheduler))
    if process.io_priority is not None:
        operations.append(SetIOPriority(process.io_priority))
    if linux is not None and linux.memory_policy is not None:
        operations.append(SetMemoryPolicy(linux.memory_policy))
    if linux is not None and linux.personality is not None:
        operations.append(SetPersonality(linux.personality.domain))
    if process.apparmor_profile:
        operations.append(labels.SetAppArmorProfile(process.apparmor_profile))
    if process.selinux_label:
        operations.append(labels.SetSelinuxLabel(process.selinux_label))
    if user_namespace >= 0:
        operations.append(JoinNamespace("user", user_namespace))
    become = BecomeUser(identity, sets, last_cap)
    policy = linux.seccomp if linux is not None else None
    filters = [seccomp.load(filter, policy, sync)] if filter is not None else []
    if process.no_new_privileges:
        return [*operations, become, NoNewPrivileges(), *before_filter, *filters]
    return [*operations, *filters, become]  # without no_new_privs only CAP_SYS_ADMIN may load a filter
