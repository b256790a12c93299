"""The namespaces of a spec: which of them the clone makes, which are there already."""

from __future__ import annotations

import fcntl
import os

from sampan.errors import InvalidArgument, StartFailed
from sampan.linux import clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci import runtime as oci

_MADE_INSIDE = ("cgroup", "network", "time")
_NS_GET_NSTYPE = 0xB703


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


def open_named(linux: oci.Linux, joined: Mapping[str, int]) -> dict[str, int]:
    """The namespaces that the spec names by path, by kind; the caller closes them. Raises StartFailed for a path that
    is not there, or leads to anything but a namespace of that kind.
    """
    opened: dict[str, int] = {}
    try:
        for namespace in linux.namespaces:
            if namespace.path and namespace.type not in joined:
                opened[namespace.type] = _open(namespace.type, namespace.path)
    except BaseException:
        for fd in opened.values():
            os.close(fd)
        raise
    return opened


def _open(kind: str, path: str) -> int:
    about = f"cannot join the {kind} namespace {path}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO, a terminal
    except OSError as error:
        raise StartFailed(f"{about}: {error.strerror}") from error
    if not _is_of(kind, fd):
        os.close(fd)
        raise StartFailed(f"{about}: that is no {kind} namespace")
    return fd


def _is_of(kind: str, fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == clone.NAMESPACES[kind][0]
    except OSError:
        return False


def ours(joined: Mapping[str, int]) -> frozenset[str]:
    """The kinds of `joined` that the calling process is in already: to join them is to share them with the host."""
    return frozenset(
        kind for kind, fd in joined.items()
        if os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{clone.NAMESPACES[kind][1]}"))
    )
