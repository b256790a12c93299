"""Which capabilities a container gets: Docker's fourteen, changed by CapAdd, CapDrop and Privileged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.linux import capability
from sampan.oci.runtime import Capabilities

DEFAULT: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
_ALL = "ALL"


def names(host_config: Mapping[str, Any], available: Sequence[str]) -> list[str]:
    """The capability names for a container. `available`: those this engine can give.

    Raises InvalidArgument for a name that is none, or that cannot be given here.
    """
    if host_config.get("Privileged"):
        return list(available)
    add = _normal(host_config.get("CapAdd") or (), available)
    drop = _normal(host_config.get("CapDrop") or (), None)
    if _ALL in add:
        return [name for name in available if name not in drop]
    if _ALL in drop:
        return list(dict.fromkeys(add))
    kept = [name for name in DEFAULT if name not in drop and name in available]
    return list(dict.fromkeys([*kept, *add]))


def _normal(given: Iterable[str], available: Sequence[str] | None) -> list[str]:
    found = []
    for text in given:
        name = text.strip().upper()
        if name != _ALL:
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in capability.NUMBERS:
                raise InvalidArgument(f'invalid capability: unknown capability: "{name[:64]}"')
            if available is not None and name not in available:
                raise InvalidArgument(
                    "invalid capability: capability not supported by your kernel or not available in the current "
                    f'environment: "{name}"'
                )
        found.append(name)
    return found


def sets(given: Sequence[str]) -> Capabilities:
    """The five sets. Inheritable and ambient stay empty (CVE-2022-24769, CVE-2016-8867)."""
    return Capabilities(bounding=list(given), effective=list(given), permitted=list(given))
