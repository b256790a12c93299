"""The rootfs description that the engine gives, beside a spec."""

from __future__ import annotations

from sampan.lean import structs
from sampan.runtime.operation import Operation
from sampan.runtime.root import BindRoot, MountOverlay


class Overlay(structs.Struct, tag="overlay", tag_field="kind"):
    """A root of image layers, topmost first, and a writable one. Absolute paths."""

    lower: list[str]
    upper: str
    work: str


class Directory(structs.Struct, tag="directory", tag_field="kind"):
    """A root that is a plain directory."""

    path: str


Rootfs = Overlay | Directory


def operation(rootfs: Rootfs, at: str, prepared: int = -1) -> Operation:
    """What makes the root in the init stage; it is attached at `at`, an existing directory of ours.

    `prepared`: the descriptor of a detached mount of a Directory, opened by who may (mount_sources.py), or -1.
    """
    if isinstance(rootfs, Overlay):
        return MountOverlay(tuple(rootfs.lower), rootfs.upper, rootfs.work, at)
    return BindRoot(rootfs.path, at, prepared)
