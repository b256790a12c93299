"""The root of a container as a directory fd, for jobs that read or write in it.

`{"kind": "directory", "path"}` or `{"kind": "overlay", "lower": [...top first], "upper", "work"}`, as the runtime has
them, or `{"kind": "fd"}`: the last descriptor of the request, /proc/PID/root of a running container.

An overlay is a detached mount that lives as long as its fd: no mount point, nothing to clean up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from sampan.errors import InvalidArgument
from sampan.linux import mount

_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def writable(root: dict[str, Any], fds: Sequence[int]) -> Iterator[int]:
    """The root, to change it. Its overlay must not be mounted elsewhere at the same time."""
    if root["kind"] == "overlay":
        yield from _closing(mount.overlay(root["lower"], root["upper"], root["work"]))
    else:
        yield from _other(root, fds)


@contextlib.contextmanager
def readable(root: dict[str, Any], fds: Sequence[int]) -> Iterator[int]:
    """The root, to read it. An overlay may be mounted elsewhere at the same time: the upper is one more lower here."""
    if root["kind"] == "overlay":
        yield from _closing(layers([*([root["upper"]] if root.get("upper") else []), *root["lower"]]))
    else:
        yield from _other(root, fds)


def layers(lower: Sequence[str]) -> int:
    """The fd of what these directories (topmost first) make together; the caller closes it."""
    if len(lower) == 1:  # overlayfs wants two when none is to be written
        return os.open(lower[0], _DIR)
    return mount.overlay(list(lower), attributes=mount.ATTR_RDONLY)


def _other(root: dict[str, Any], fds: Sequence[int]) -> Iterator[int]:
    if root["kind"] == "directory":
        yield from _closing(os.open(root["path"], _DIR))
    elif root["kind"] == "fd" and fds:
        yield fds[-1]
    else:
        raise InvalidArgument(f"no root of the kind {root['kind']!r}")


def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
