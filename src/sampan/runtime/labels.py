"""Operations on security labels: AppArmor's profile and SELinux's context of the program (config.md, "Linux Process").

A label that silently goes nowhere is an escape (CVE-2019-16884): it is written by a descriptor of a real procfs, to
the calling thread's own entry, without crossing a mount (linux/procfs.py), and a host that cannot do it is an error.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, Unsupported
from sampan.lean.record import dataclass
from sampan.linux import procfs, security
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class SetAppArmorProfile:
    """The profile that the program will enter at execve. Anything executed before would enter it instead."""

    profile: str

    def describe(self) -> str:
        return f"apply apparmor profile {self.profile}"

    def apply(self, stage: Stage) -> None:
        proc = procfs.private()
        try:
            security.set_apparmor_on_exec(self.profile, proc)
        finally:
            os.close(proc)


@dataclass(frozen=True)
class SetSelinuxLabel:
    """The context that the program will have, and the keys it makes."""

    label: str

    def describe(self) -> str:
        return f"apply selinux label {self.label}"

    def apply(self, stage: Stage) -> None:
        proc = procfs.private()
        try:
            security.set_selinux_on_exec(self.label, proc)
        finally:
            os.close(proc)


def check_apparmor(profile: str) -> None:
    """Raises Unsupported on a host without AppArmor, InvalidArgument for what is no profile's name. "" is none."""
    if not profile:
        return
    _check(profile, "apparmorProfile")
    if not security.apparmor_enabled():
        raise Unsupported(f"apparmorProfile {profile!r} is specified in config, but apparmor is not enabled")


def check_selinux(label: str, what: str = "selinuxLabel") -> None:
    """Raises Unsupported on a host without SELinux. `what`: "selinuxLabel" or "mountLabel". "" is none."""
    if not label:
        return
    _check(label, what)
    if not security.selinux_enabled():
        raise Unsupported(f"{what} {label!r} is specified in config, but selinux is disabled or not supported")


def _check(label: str, what: str) -> None:
    if not label.isprintable() or len(label) > 4000:
        raise InvalidArgument(f"{what} {label[:80]!r} is not a label")
