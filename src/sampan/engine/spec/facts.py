"""What of this host goes into a container's spec. Looked up once; the rest of this package only computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sampan.linux import capability, cgroup
from sampan.linux.cgroup import features
from sampan.linux.cgroup.host import kernel_release


@dataclass(frozen=True)
class Facts:
    """`capabilities`: what this engine can give, "CAP_…" in the kernel's order. `machine` is uname's.

    `id_range`: first host id and number of ids for containers with a user namespace of their own: the host's own ids,
    so that an image's files keep their owners; what such a namespace takes away is power over the host's objects.
    """

    cgroups: cgroup.Host
    features: features.Features
    capabilities: tuple[str, ...] = capability.NAMES
    kernel: tuple[int, int] = (6, 1)
    machine: str = "x86_64"
    masked: tuple[str, ...] = ()
    apparmor: bool = False
    selinux: bool = False
    id_range: tuple[int, int] = (0, 2**32 - 1)


def read(host: cgroup.Host) -> Facts:
    """Raises OSError."""
    ours = capability.read()
    return Facts(
        cgroups=host, features=features.read(host),
        capabilities=tuple(
            name for name in capability.to_names(ours.bounding & ours.permitted) if name in capability.NUMBERS
        ),
        kernel=kernel_release(), machine=os.uname().machine, masked=_thermal_throttle(), apparmor=_apparmor(),
        selinux=Path("/sys/fs/selinux/enforce").exists(),
    )


def _thermal_throttle() -> tuple[str, ...]:
    """These counters tell of other containers' work, as /proc/interrupts does (GHSA-6fw5-f8r9-fgfm)."""
    return tuple(sorted(str(path) for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")))


def _apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y"
    except OSError:
        return False
