"""SecurityOpt, and the paths of /proc and /sys that a container does not see or cannot write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sampan.engine.spec.facts import Facts
from sampan.engine.spec.seccomp import default_policy, parse_profile
from sampan.errors import InvalidArgument, Unsupported
from sampan.oci.runtime import Seccomp

MASKED: Final = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@dataclass
class SecurityOptions:
    """What SecurityOpt asks for. `seccomp`: "" for the default, "unconfined", or a profile's JSON text."""

    seccomp: str = ""
    no_new_privileges: bool = False
    writable_cgroups: bool = False
    warnings: list[str] = field(default_factory=list)


def parse(options: Sequence[str], facts: Facts) -> SecurityOptions:
    """Raises InvalidArgument; Unsupported for a confinement that would silently not happen."""
    found = SecurityOptions()
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            key, separator, value = option.partition(":")
        if option == "no-new-privileges":
            found.no_new_privileges = True
        elif option == "disable":
            continue  # of labels: there are none
        elif not separator:
            raise InvalidArgument(f'invalid --security-opt 1: "{option[:64]}"')
        elif key == "no-new-privileges":
            found.no_new_privileges = _boolean(value, option)
        elif key == "writable-cgroups":
            found.writable_cgroups = _boolean(value, option)
        elif key == "seccomp":
            found.seccomp = "" if value == "builtin" else value
        elif key == "apparmor":
            _apparmor(value, facts, found.warnings)
        elif key == "label":
            _label(value, facts, found.warnings)
        elif option == "systempaths=unconfined":
            continue  # the docker command turns it into MaskedPaths and ReadonlyPaths
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option[:64]}"')
    return found


def _boolean(value: str, option: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise InvalidArgument(f'invalid --security-opt 2: "{option[:64]}"')
    return value in _TRUE


def _apparmor(profile: str, facts: Facts, warnings: list[str]) -> None:
    if profile == "unconfined":
        return
    if facts.apparmor:
        raise Unsupported(f"AppArmor profiles are not supported: the container would run without {profile!r}")
    warnings.append(f"This host has no AppArmor. Profile {profile!r} discarded.")


def _label(value: str, facts: Facts, warnings: list[str]) -> None:
    if value == "disable":
        return
    if facts.selinux:
        raise Unsupported(f"SELinux labels are not supported: the container would run without label {value!r}")
    warnings.append(f"This host has no SELinux. Label {value!r} discarded.")


def masked_paths(host_config: Mapping[str, Any], facts: Facts) -> list[str]:
    """None for privileged containers; MaskedPaths, empty too, replaces the defaults."""
    given = host_config.get("MaskedPaths")
    if given is not None:
        return list(given)
    return [] if host_config.get("Privileged") else [*MASKED, *facts.masked]


def readonly_paths(host_config: Mapping[str, Any]) -> list[str]:
    """As `masked_paths`, for ReadonlyPaths."""
    given = host_config.get("ReadonlyPaths")
    if given is not None:
        return list(given)
    return [] if host_config.get("Privileged") else list(READONLY)


def seccomp_policy(
    options: SecurityOptions, capabilities: Sequence[str], privileged: bool, facts: Facts
) -> Seccomp | None:
    """The policy, or None for unconfined and privileged containers. Raises InvalidArgument for a bad profile."""
    if options.seccomp == "unconfined" or (privileged and not options.seccomp):
        return None
    held = frozenset(capabilities)
    if not options.seccomp:
        return default_policy(held, facts.machine, facts.kernel)
    return parse_profile(options.seccomp, held, facts.machine, facts.kernel)
