"""Device nodes and the rules of the device controller."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sampan.errors import InvalidArgument
from sampan.oci.runtime import Device, DeviceCgroup

_RULE = re.compile(r"([abc]) (\d{1,9}|\*):(\d{1,9}|\*) ([rwm]{1,3})")
_ACCESS = re.compile(r"[rwm]{1,3}")
_SKIPPED = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"))
_MAX_DEPTH = 8


def _char(major: int, minor: int | None, access: str = "rwm") -> DeviceCgroup:
    return DeviceCgroup(allow=True, type="c", major=major, minor=minor, access=access)


DEFAULT_RULES: Final = (
    DeviceCgroup(allow=False, type="a", access="rwm"),
    DeviceCgroup(allow=True, type="c", access="m"),
    DeviceCgroup(allow=True, type="b", access="m"),
    _char(1, 3), _char(1, 5), _char(1, 7), _char(1, 8), _char(1, 9),  # null, zero, full, random, urandom
    _char(5, 0), _char(5, 1), _char(5, 2), _char(136, None),  # tty, console, ptmx, pts/*
)
"""Nothing but the usual; making any node is allowed, opening it is what is controlled."""


def rules(host_config: Mapping[str, Any], devices: list[Device], given: Mapping[str, str]) -> list[DeviceCgroup]:
    """Defaults, then a rule for each device, then DeviceCgroupRules. `given`: path in the container → its access."""
    if host_config.get("Privileged"):
        return [DeviceCgroup(allow=True, type="a", access="rwm")]
    found = list(DEFAULT_RULES)
    for device in devices:
        kind = "b" if device.type == "b" else "c"
        access = given.get(device.path, "rwm")
        found.append(DeviceCgroup(allow=True, type=kind, major=device.major, minor=device.minor, access=access))
    return found + [parse_rule(text) for text in host_config.get("DeviceCgroupRules") or ()]


def parse_rule(text: str) -> DeviceCgroup:
    """"c 1:3 rwm". Raises InvalidArgument."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text[:64]}'")
    kind, major, minor, access = match.groups()
    return DeviceCgroup(allow=True, type=kind, major=_number(major), minor=_number(minor), access=access)


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def make(host_config: Mapping[str, Any]) -> tuple[list[Device], dict[str, str]]:
    """The nodes to make, and the access to each by its path. All of the host's for a privileged container.

    Raises InvalidArgument for a path that is no device.
    """
    found: list[Device] = []
    access: dict[str, str] = {}
    if host_config.get("Privileged"):
        found += _below("/dev", "/dev", 0)
    for entry in host_config.get("Devices") or ():
        on_host = entry.get("PathOnHost") or ""
        inside = entry.get("PathInContainer") or on_host
        permissions = entry.get("CgroupPermissions") or "rwm"
        if not _ACCESS.fullmatch(permissions):
            raise InvalidArgument(f"invalid device mode: {permissions[:16]}")
        if not (on_host.startswith("/") and inside.startswith("/")) or "/../" in f"{inside}/":
            raise InvalidArgument(f"{on_host[:100]}:{inside[:100]} is not an absolute path")
        made = _gather(on_host, inside)
        known = {device.path for device in made}
        found = [device for device in found if device.path not in known] + made
        access |= dict.fromkeys(known, permissions)
    return found, access


def _gather(on_host: str, inside: str) -> list[Device]:
    try:
        status = os.stat(on_host)
    except OSError as error:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{on_host}": {error.strerror}'
        ) from error
    if stat.S_ISDIR(status.st_mode):
        made = list(_below(on_host, inside, 0))
        if made:
            return made
    device = _device(status, inside)
    if device is None:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{on_host}": not a device node'
        )
    return [device]


def _below(on_host: str, inside: str, depth: int) -> Iterator[Device]:
    try:
        entries = sorted(os.scandir(on_host), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidArgument(f"cannot list the devices in {on_host}: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED and depth < _MAX_DEPTH:
                yield from _below(entry.path, f"{inside}/{entry.name}", depth + 1)
            continue
        device = _device(entry.stat(follow_symlinks=False), f"{inside}/{entry.name}")
        if device is not None and not (depth == 0 and entry.name in _SKIPPED):
            yield device


def _device(status: os.stat_result, path: str) -> Device | None:
    if stat.S_ISBLK(status.st_mode):
        kind = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    else:
        return None
    return Device(
        path=path, type=kind, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid,
    )
