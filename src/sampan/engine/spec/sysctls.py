"""Sysctls of a container: only those that live in a namespace of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from sampan.errors import InvalidArgument

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}(?:\.[a-zA-Z0-9_-]{1,64}){1,8}")
_VALUE = re.compile(r"[A-Za-z0-9_ \t.,:/-]{0,4096}")
_IPC: Final = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
))


def checked(given: Mapping[str, Any], namespaces: Collection[str]) -> dict[str, str]:
    """The settings, names with dots. `namespaces`: the kinds that the container has for itself.

    Raises InvalidArgument for a name or value that is none (a "+" or a newline once smuggled a second setting in:
    CVE-2022-0811), and for one that would change the host or another container.
    """
    found: dict[str, str] = {}
    for key, value in given.items():
        name = key.replace("/", ".") if "." not in key else key
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"invalid sysctl name: {key[:100]!r}")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise InvalidArgument(f"invalid value for sysctl {name!r}: {str(value)[:100]!r}")
        _check_scope(name, namespaces)
        if name in found:
            raise InvalidArgument(f"sysctl {name!r} is set twice")
        found[name] = value
    return found


def _check_scope(name: str, namespaces: Collection[str]) -> None:
    if name in _IPC or name.startswith("fs.mqueue."):
        kind = "ipc"
    elif name.startswith("net."):
        kind = "network"
    elif name in ("kernel.domainname", "kernel.hostname"):
        kind = "uts"
    else:
        raise InvalidArgument(f"sysctl {name!r} is not in a separate kernel namespace: it would change the whole host")
    if name == "kernel.hostname":
        raise InvalidArgument('sysctl "kernel.hostname" is not allowed as it conflicts with the container\'s hostname')
    if kind not in namespaces:
        where = "host network namespace" if kind == "network" else f"shared {kind} namespace"
        raise InvalidArgument(f"sysctl {name!r} not allowed in {where}")
