"""The root a step works on: an image's layers with a fresh upper directory over them, mounted nowhere.

The overlay is a detached mount that lives as long as its fd: what a killed job leaves is a directory, never a mount.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from sampan.image.rootfs import layers
from sampan.linux import mount


class Step:
    """`root`: fd of the merged tree. `upper`: the path of the directory that gets the changes."""

    def __init__(self, root: int, upper: str) -> None:
        self.root = root
        self.upper = upper


@contextlib.contextmanager
def writable(lower: Sequence[str], directory: str) -> Iterator[Step]:
    """Mount `lower` (topmost first) with an upper and a work directory made in `directory`, which is ours alone."""
    upper, work = f"{directory}/upper", f"{directory}/work"
    os.mkdir(work, 0o700)
    os.mkdir(upper, 0o700)
    _dress_like(upper, lower[0])
    root = mount.overlay(list(lower), upper, work)
    try:
        yield Step(root, upper)
    finally:
        os.close(root)


@contextlib.contextmanager
def readable(lower: Sequence[str]) -> Iterator[int]:
    """The fd of the merged tree, to read from."""
    root = layers(lower)
    try:
        yield root
    finally:
        os.close(root)


def _dress_like(upper: str, lower: str) -> None:
    """The merged root looks like its upper directory: it must go on looking like the image's."""
    status = os.stat(lower)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
