"""Operations on what the process is: limits, groups, user, capabilities, seccomp."""

from __future__ import annotations

import os
from functools import cache

from sampan.lean.record import dataclass
from sampan.linux import capability, process, seccomp
from sampan.oci import runtime as oci
from sampan.runtime.operation import Stage
from sampan.runtime.users import Identity


@dataclass(frozen=True)
class SetRlimits:
    """Resource limits (getrlimit(2)). One that the host does not allow is a warning, not the end."""

    limits: tuple[oci.Rlimit, ...]

    def describe(self) -> str:
        return "set " + ", ".join(limit.type for limit in self.limits)

    def apply(self, stage: Stage) -> None:
        for limit in self.limits:
            try:
                process.set_rlimit(limit.type, limit.soft, limit.hard)
            except PermissionError:
                stage.warnings.append(
                    f"{limit.type} {limit.soft}:{limit.hard} was not set: raising a limit needs CAP_SYS_RESOURCE, "
                    "which this host does not give the engine"
                )


@dataclass(frozen=True)
class BecomeUser:
    """Drop the bounding set, become the user, then take the final capability sets (capabilities(7)).

    The order matters: bounding needs CAP_SETPCAP, groups need CAP_SETGID, and a change of uid clears the rest.
    """

    identity: Identity
    sets: capability.Sets | None
    last_cap: int

    def describe(self) -> str:
        names = capability.to_names(self.sets.effective) if self.sets else ["all"]
        return f"become {self.identity.uid}:{self.identity.gid} with {len(names)} capabilities"

    def apply(self, stage: Stage) -> None:
        if self.sets is not None:
            capability.drop_bounding(self.sets.bounding, self.last_cap)
            capability.keep_over_setuid(True)
        os.setgroups(list(self.identity.groups))
        os.setresgid(self.identity.gid, self.identity.gid, self.identity.gid)
        os.setresuid(self.identity.uid, self.identity.uid, self.identity.uid)
        if self.sets is not None:
            capability.keep_over_setuid(False)
            capability.set_sets(self.sets.effective, self.sets.permitted, self.sets.inheritable)
            capability.set_ambient(self.sets.ambient)


@dataclass(frozen=True)
class NoNewPrivileges:
    def describe(self) -> str:
        return "set no_new_privs"

    def apply(self, stage: Stage) -> None:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class LoadSeccomp:
    """Load the compiled filter (seccomp(2)). Needs CAP_SYS_ADMIN or no_new_privs at this moment."""

    bpf: bytes
    flags: int = 0

    def describe(self) -> str:
        return f"load the seccomp filter ({len(self.bpf) // 8} instructions)"

    def apply(self, stage: Stage) -> None:
        seccomp.load(self.bpf, self.flags)


@cache
def _own_sets() -> capability.Sets:
    """What this process and those it forks may give. It does not change; the launcher has looked before it forks."""
    return capability.read()


@cache
def last_cap() -> int:
    return capability.last_cap()


def final_sets(wanted: oci.Capabilities | None) -> tuple[capability.Sets | None, list[str]]:
    """The sets for a spec, cut to what we ourselves have, and a warning for what is missing. None: leave all as is."""
    if wanted is None:
        return None, []
    ours = _own_sets()
    bounding = capability.to_mask(wanted.bounding)
    permitted = capability.to_mask(wanted.permitted)
    missing = bounding & ~ours.bounding | permitted & ~ours.permitted
    warnings = []
    if missing:
        warnings.append(f"not given, because the engine itself lacks it: {', '.join(capability.to_names(missing))}")
    permitted &= ours.permitted
    inheritable = capability.to_mask(wanted.inheritable) & ours.bounding
    return capability.Sets(
        bounding & ours.bounding, capability.to_mask(wanted.effective) & permitted, inheritable, permitted,
        capability.to_mask(wanted.ambient) & permitted & inheritable,
    ), warnings


def read_filter(path: str) -> bytes:
    """A compiled seccomp filter, b"" for none. At most 4096 instructions of 8 bytes (BPF_MAXINSNS)."""
    if not path:
        return b""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096 * 8)
    finally:
        os.close(fd)
