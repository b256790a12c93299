"""The host's network devices that a container takes over (config-linux.md, "Network Devices").

In the runtime's own process, once the container's network namespace is there; nothing of it runs in a container.
"""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, NotFound, StartFailed
from sampan.linux import net_device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci import runtime as oci


def check(devices: Mapping[str, oci.NetDevice], own_namespace: bool) -> None:
    """Raises InvalidArgument for what can never work; `own_namespace`: the container has a network namespace."""
    if not own_namespace:
        raise InvalidArgument("unable to move network devices without a private NET namespace")
    for name, device in devices.items():
        for entry in (name, device.name or name):
            if not _is_name(entry):
                raise InvalidArgument(f"invalid network device name {entry[:80]!r}: at most 15 bytes, no space, / or :")
        if "%" in name or device.name.count("%") != device.name.count("%d") or device.name.count("%") > 1:
            raise InvalidArgument(f"invalid network device name {device.name or name!r}: % stands only in one %d")
    wanted = [device.name for device in devices.values() if device.name and "%" not in device.name]
    if len(set(wanted)) < len(wanted):
        raise InvalidArgument("two network devices would get the same name in the container")


def _is_name(name: str) -> bool:
    size = len(os.fsencode(name))
    return 0 < size <= net_device.MAX_NAME and name not in (".", "..") and not any(
        letter in "/:\0" or letter.isspace() for letter in name
    )


def move(devices: Mapping[str, oci.NetDevice], pid: int) -> None:
    """Move them to the network namespace of process `pid`, keeping permanent global addresses; they are up then.

    Raises NotFound for a device that the host has not, StartFailed with its name for all else.
    """
    if not devices:
        return
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        net_device.move({name: device.name for name, device in devices.items()}, netns)
    except OSError as error:
        if error.errno == 19:  # ENODEV
            raise NotFound(f"network device {error.filename} does not exist on the host") from error
        raise StartFailed(f"cannot move network device {error.filename}: {error.strerror}") from error
    finally:
        os.close(netns)
