"""Operations on what the process is: limits, groups, user, capabilities, execution domain."""

from __future__ import annotations

import errno
import os

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.linux import capability, personality, process, procfs, seccomp
from sampan.runtime.operation import Stage
from sampan.runtime.users import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci

_OVERRIDES = capability.to_mask(("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"))


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


def check_rlimits(limits: list[oci.Rlimit]) -> None:
    """Raises InvalidArgument for an unknown name, one that comes twice, or a soft limit above the hard one."""
    seen: set[str] = set()
    for limit in limits:
        if limit.type not in process.RLIMITS:
            raise InvalidArgument(f"invalid rlimit type: {limit.type!r}")
        if limit.type in seen:
            raise InvalidArgument(f"rlimit {limit.type} is specified more than once")
        seen.add(limit.type)
        if not -1 <= limit.soft < 1 << 64 or not -1 <= limit.hard < 1 << 64:
            raise InvalidArgument(f"rlimit {limit.type}: {limit.soft}:{limit.hard} does not fit 64 bits")
        if limit.soft % (1 << 64) > limit.hard % (1 << 64):  # -1 is the largest of all
            raise InvalidArgument(f"rlimit {limit.type}: the soft limit {limit.soft} is above the hard {limit.hard}")


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
        # From here on no more powerful than others of a shared pid namespace, who could look into us (CVE-2016-9962).
        process.prctl(process.PR_SET_DUMPABLE, 0)
        if self.sets is not None:
            capability.drop_bounding(self.sets.bounding, self.last_cap)
            capability.keep_over_setuid(True)
        self._set_groups()
        uid, gid = self.identity.uid, self.identity.gid
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise OSError(error.errno, "is not mapped in the container's user namespace", f"{uid}:{gid}") from error
        if self.sets is not None:
            capability.keep_over_setuid(False)
            capability.set_sets(self.sets.effective, self.sets.permitted, self.sets.inheritable)
            capability.set_ambient(self.sets.ambient)

    def _set_groups(self) -> None:
        """Where an ordinary user mapped himself, the kernel lets nobody drop groups (user_namespaces(7),
        CVE-2014-8989).

        Then those he has stay, which is all the same to the host; groups that were asked for cannot be had.
        """
        try:
            os.setgroups(list(self.identity.groups))
        except PermissionError as error:
            if not _setgroups_denied():
                raise
            if set(self.identity.groups) - {self.identity.gid}:
                raise OSError(
                    error.errno, "cannot set any additional groups in a rootless container", "setgroups"
                ) from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            groups = ", ".join(map(str, self.identity.groups))
            reason = "not all of these groups are mapped in the container's user namespace"
            raise OSError(error.errno, reason, groups) from error


def _setgroups_denied() -> bool:
    proc = procfs.private()
    try:
        return procfs.read_own(proc, "setgroups").strip() == b"deny"
    finally:
        os.close(proc)


@dataclass(frozen=True)
class LayDownOverrides:
    """Do without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH until the next execve(2), which works out anew what is
    effective, and whether the process is dumpable: not if it could not read its own file (trampoline.py). Then nobody
    inside can trace what has a socket of the runtime's still, and speak in its name.
    """

    sets: capability.Sets

    def describe(self) -> str:
        return "lay down the right to read every file"

    def apply(self, stage: Stage) -> None:
        sets = self.sets
        capability.set_sets(sets.effective & ~_OVERRIDES, sets.permitted, sets.inheritable)


@dataclass(frozen=True)
class NoNewPrivileges:
    def describe(self) -> str:
        return "set no_new_privs"

    def apply(self, stage: Stage) -> None:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class SetPersonality:
    """personality(2): LINUX32 for programs that ask uname(2) which machine they are on."""

    domain: str

    def describe(self) -> str:
        return f"set the personality to {self.domain}"

    def apply(self, stage: Stage) -> None:
        personality.set_domain(personality.DOMAINS[self.domain])


def check_personality(wanted: oci.Personality) -> None:
    """Raises InvalidArgument for an unknown domain, or any flag: the spec defines none."""
    if wanted.domain not in personality.DOMAINS:
        raise InvalidArgument(f"invalid personality domain {wanted.domain!r}: {', '.join(personality.DOMAINS)}")
    if wanted.flags:
        raise InvalidArgument(f"personality flags are not supported: {', '.join(wanted.flags)}")


def last_cap() -> int:
    return capability.last_cap()


def final_sets(
    wanted: oci.Capabilities | None, own_user_namespace: bool = False
) -> tuple[capability.Sets, list[str]]:
    """The sets for a spec, cut to what we ourselves have and the kernel takes together (capabilities(7)), and warnings
    for what is missing: config.md asks for them, and for no failure. None: no capabilities. Ambient ones that are not
    inheritable go without a word: runc's own `spec` wrote them for years.

    `own_user_namespace`: the process will be in a user namespace made for the container, where it has everything.
    Unknown names are left out: `unknown_capabilities` warns of them.
    """
    lists: tuple[list[str], ...] = ([], [], [], [], [])
    if wanted is not None:
        lists = (wanted.bounding, wanted.effective, wanted.inheritable, wanted.permitted, wanted.ambient)
    last = capability.last_cap()
    bounding, effective, inheritable, permitted, ambient = [capability.known_mask(names, last)[0] for names in lists]
    warnings = []
    if own_user_namespace:
        everything = (2 << last) - 1
        own_bounding, own_permitted = everything, everything
    else:
        ours = capability.read()
        own_bounding, own_permitted = ours.bounding, ours.permitted
    missing = bounding & ~own_bounding | permitted & ~own_permitted
    if missing:
        warnings.append(f"not given, because the engine itself lacks it: {', '.join(capability.to_names(missing))}")
    bounding &= own_bounding
    permitted &= own_permitted
    sets = capability.Sets(
        bounding, effective & permitted, inheritable & bounding, permitted, ambient & permitted & inheritable & bounding
    )
    contrary = effective & ~sets.effective | inheritable & ~sets.inheritable | ambient & ~permitted
    if contrary & ~missing:
        names = ", ".join(capability.to_names(contrary & ~missing))
        warnings.append(
            f"not given in every set asked for, because the others forbid it: {names} (effective and ambient need "
            "permitted, inheritable needs bounding)"
        )
    return sets, warnings


def unknown_capabilities(wanted: oci.Capabilities | None) -> list[str]:
    """A warning, if any, for names that this runtime or this kernel does not know: as in runc they are left out."""
    if wanted is None:
        return []
    names = (*wanted.bounding, *wanted.effective, *wanted.inheritable, *wanted.permitted, *wanted.ambient)
    unknown = capability.known_mask(dict.fromkeys(names), capability.last_cap())[1]
    return [f"ignoring unknown or unavailable capabilities: {' '.join(unknown)}"] if unknown else []


def read_filter(path: str) -> seccomp.Filter | None:
    """A compiled seccomp filter with its flags (linux/seccomp.py), None for no path. Raises OSError."""
    return seccomp.read(path) if path else None
