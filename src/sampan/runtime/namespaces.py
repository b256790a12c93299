"""The namespaces of a spec: which of them the clone makes, which are there already."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument, StartFailed
from sampan.linux import clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci import runtime as oci

_MADE_INSIDE = ("cgroup", "network", "time")


def clone_flags(linux: oci.Linux, joined: Mapping[str, int]) -> int:
    """The NEW… flags of clone3. Cgroup, network and time namespaces are made later, by the process itself: the first
    in its group, the others so rarely that they are not made ahead. A user namespace is among the flags when the spec
    asks for a new one with its mappings; one that is given in `joined` is entered. An ipc namespace waits for its root
    then: the root directory of its mqueue belongs to whoever makes it.
    """
    flags = 0
    for namespace in linux.namespaces:
        kind = clone.NAMESPACES.get(namespace.type)
        if kind is None:
            raise InvalidArgument(f"unknown namespace type: {namespace.type}")
        if namespace.type not in joined and namespace.type not in _MADE_INSIDE:
            flags |= kind[0]
    return flags & ~clone.NEWIPC if flags & clone.NEWUSER else flags


def open_named(linux: oci.Linux, joined: dict[str, int]) -> dict[str, int]:
    """The namespaces that the spec names by path, by kind; the caller closes them. Raises StartFailed."""
    opened: dict[str, int] = {}
    for namespace in linux.namespaces:
        if namespace.path and namespace.type not in joined:
            try:
                opened[namespace.type] = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                for fd in opened.values():
                    os.close(fd)
                raise StartFailed(
                    f"cannot join the {namespace.type} namespace {namespace.path}: {error.strerror}"
                ) from error
    return opened
