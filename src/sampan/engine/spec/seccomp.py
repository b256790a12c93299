"""Which seccomp policy a container gets: the default one, one that the user sent, or none."""

from __future__ import annotations

import errno
from functools import lru_cache

import msgspec

from sampan.engine.spec import seccomp_default as default
from sampan.errors import InvalidArgument
from sampan.linux import seccomp_compiler
from sampan.oci.runtime import Seccomp, SeccompArg, SyscallRule

_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_MAX_PROFILE = 1 << 20


@lru_cache(maxsize=32)
def default_policy(capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> Seccomp:
    """The default policy for a container with these capabilities ("CAP_…") on this machine and kernel.

    The same object for the same arguments: not to be changed.
    """
    allowed = [*default.ALWAYS, *default.BY_MACHINE.get(machine, ())]
    if kernel >= (4, 8):
        allowed += default.SINCE_4_8
    for capability in sorted(capabilities):
        allowed += default.WITH_CAPABILITY.get(capability, ())
    rules = [SyscallRule(names=list(dict.fromkeys(allowed)), action=_ALLOW)]
    below = SeccompArg(index=0, value=default.SOCKET_FAMILIES_BELOW, op="SCMP_CMP_LT")
    conditions = [below, *(default.equal(0, family) for family in default.SOCKET_FAMILIES)]
    rules += [SyscallRule(names=["socket"], action=_ALLOW, args=[condition]) for condition in conditions]
    rules += [
        SyscallRule(names=["personality"], action=_ALLOW, args=[default.equal(0, value)])
        for value in default.PERSONALITIES
    ]
    if default.SYS_ADMIN not in capabilities:
        flags_at = 1 if machine == "s390x" else 0  # s390 has clone's first two arguments the other way round
        no_namespaces = SeccompArg(
            index=flags_at, value=default.NEW_NAMESPACES, value_two=0, op="SCMP_CMP_MASKED_EQ"
        )
        rules.append(SyscallRule(names=["clone"], action=_ALLOW, args=[no_namespaces]))
        # Its flags are behind a pointer, out of a filter's sight: ENOSYS makes the C library use clone.
        rules.append(SyscallRule(names=["clone3"], action=_ERRNO, errno_ret=errno.ENOSYS))
    return Seccomp(
        default_action=_ERRNO, default_errno_ret=errno.EPERM,
        architectures=list(default.ARCHITECTURES.get(machine, ())), syscalls=rules,
    )


class _Filter(msgspec.Struct, rename="camel"):
    """When a rule of a profile applies: some of the names must (`includes`) or must not (`excludes`) hold."""

    caps: list[str] = []
    arches: list[str] = []
    min_kernel: str = ""


class _Rule(msgspec.Struct, rename="camel"):
    action: str
    name: str = ""
    names: list[str] = []
    errno_ret: int | None = None
    args: list[SeccompArg] | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None


class _Architecture(msgspec.Struct, rename="camel"):
    architecture: str
    sub_architectures: list[str] | None = None


class _Profile(msgspec.Struct, rename="camel"):
    """A profile in Docker's own format, which is OCI's with conditions."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[_Architecture] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    syscalls: list[_Rule] | None = None


# Docker's (Go's) names of machines → the kernel's.
_GO_MACHINES = {
    "amd64": "x86_64", "x32": "x86_64", "x86": "x86_64", "386": "x86_64", "arm64": "aarch64", "arm": "aarch64",
    "ppc64le": "ppc64le", "s390x": "s390x", "s390": "s390x", "riscv64": "riscv64", "loong64": "loongarch64",
}


def parse_profile(text: str, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> Seccomp:
    """A profile as `--security-opt seccomp=FILE` sends it. Raises InvalidArgument that says what is wrong where."""
    if len(text) > _MAX_PROFILE:
        raise InvalidArgument(f"Decoding seccomp profile failed: it is larger than {_MAX_PROFILE} bytes")
    try:
        profile = msgspec.json.decode(text.encode(), type=_Profile)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    if profile.architectures and profile.arch_map:
        raise InvalidArgument("both 'architectures' and 'archMap' are specified in the seccomp profile, use only one")
    if profile.listener_path:
        raise InvalidArgument("seccomp profiles with a listener (SCMP_ACT_NOTIFY) are not supported")
    rules = [
        SyscallRule(names=_names(rule), action=rule.action, errno_ret=rule.errno_ret, args=rule.args or [])
        for rule in profile.syscalls or ()
        if _holds(rule, capabilities, machine, kernel)
    ]
    policy = Seccomp(
        default_action=profile.default_action, default_errno_ret=profile.default_errno_ret,
        architectures=_architectures(profile, machine), flags=profile.flags or [], syscalls=rules,
    )
    seccomp_compiler.check(policy)
    return policy


def _names(rule: _Rule) -> list[str]:
    if rule.name and rule.names:
        raise InvalidArgument(
            "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
        )
    return rule.names or [rule.name]


def _holds(rule: _Rule, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.includes or _Filter(), rule.excludes or _Filter()
    if any(machine == _GO_MACHINES.get(name) for name in excludes.arches) or capabilities.intersection(excludes.caps):
        return False
    if excludes.min_kernel and kernel >= _version(excludes.min_kernel):
        return False
    if includes.arches and not any(machine == _GO_MACHINES.get(name) for name in includes.arches):
        return False
    if not capabilities.issuperset(includes.caps):
        return False
    return not includes.min_kernel or kernel >= _version(includes.min_kernel)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(text) < 10):
        raise InvalidArgument(f"invalid kernel version in the seccomp profile: {text[:32]!r}")
    return int(major), int(minor)


def _architectures(profile: _Profile, machine: str) -> list[str]:
    if profile.architectures:
        return profile.architectures
    native = default.ARCHITECTURES.get(machine, ("",))[0]
    for entry in profile.arch_map or ():
        if entry.architecture == native:
            return [native, *(entry.sub_architectures or ())]
    return []
