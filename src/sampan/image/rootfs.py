"""The root of a container as a directory fd, for jobs that read or write in it.

`{"kind": "directory", "path"}` or `{"kind": "overlay", "lower": [...top first], "upper", "work"}`, as the runtime has
them, or `{"kind": "fd"}`: the last descriptor of the request, /proc/PID/root of a running container.

An overlay is a detached mount that lives as long as its fd: no mount point, nothing to clean up. One with `"mounts":
[{"source", "destination", "read_only"}]`, sorted, shows what a container that does not run would have mounted: it is
attached in a mount namespace of the job's own, which ends with the job. Missing mount points are made, as by a start.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from sampan.errors import InvalidArgument
from sampan.linux import clone, mount, paths

_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def writable(root: dict[str, Any], fds: Sequence[int]) -> Iterator[int]:
    """The root, to change it. Its overlay must not be mounted elsewhere at the same time."""
    if root["kind"] == "overlay":
        merged = mount.overlay(root["lower"], root["upper"], root["work"])
        if root.get("mounts"):
            _mount_all(merged, root["upper"], root["mounts"])
        yield from _closing(merged)
    else:
        yield from _other(root, fds)


@contextlib.contextmanager
def readable(root: dict[str, Any], fds: Sequence[int]) -> Iterator[int]:
    """The root, to read it. An overlay without mounts may be mounted elsewhere at the same time: its upper is one more
    lower here.
    """
    if root.get("mounts"):
        with writable(root, fds) as fd:
            yield fd
    elif root["kind"] == "overlay":
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


def _mount_all(root: int, place: str, mounts: Sequence[dict[str, Any]]) -> None:
    clone.unshare(clone.NEWNS)
    mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
    target = os.open(place, _DIR)  # anywhere: nobody else sees it there, and we use its descriptor
    mount.attach(root, target)
    os.close(target)
    for entry in mounts:
        tree = mount.clone_tree(entry["source"], recursive=True)
        try:
            if entry["read_only"]:
                mount.set_attributes(tree, mount.ATTR_RDONLY)
            target = _mount_point(root, entry["destination"], stat.S_ISDIR(os.fstat(tree).st_mode))
            mount.attach(tree, target)
            os.close(target)
        finally:
            os.close(tree)


def _mount_point(root: int, path: str, is_directory: bool) -> int:
    if is_directory:
        return paths.ensure_dir(root, path, 0o755, 0, 0)
    paths.make_dirs(root, os.path.dirname(path), 0o755, 0, 0)
    directory, name = paths.open_parent(root, path, follow=True)
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory))
    finally:
        os.close(directory)
    return paths.open_in_root(root, path, os.O_PATH)
