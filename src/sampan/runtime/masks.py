"""Operations that hide or protect parts of /proc and /sys."""

from __future__ import annotations

import os
import stat

from sampan.lean.record import dataclass
from sampan.linux import mount, paths
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class MaskPath:
    """Nothing to see: /dev/null over a file, an empty read-only tmpfs over a directory. A missing path is fine."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def apply(self, stage: Stage) -> None:
        target = _open(stage, self.path)
        if target < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(target).st_mode):
                if stage.empty < 0:
                    stage.empty = mount.new("tmpfs", {"source": "tmpfs", "nr_inodes": "1"}, mount.ATTR_RDONLY)
                    mount.attach(stage.empty, target)
                    return
                cover = mount.clone_tree("", stage.empty)
            else:
                cover = mount.clone_tree("", stage.null_device())
                mount.set_attributes(cover, mount.ATTR_RDONLY)  # its mode and owner are the host's: not to be changed
            mount.attach(cover, target)
            os.close(cover)
        finally:
            os.close(target)


@dataclass(frozen=True)
class ReadonlyPath:
    """A read-only bind of a path on itself. A missing path is fine."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def apply(self, stage: Stage) -> None:
        target = _open(stage, self.path)
        if target < 0:
            return
        try:
            cover = mount.clone_tree("", target, recursive=True)
            mount.set_attributes(cover, mount.ATTR_RDONLY, recursive=True)
            mount.attach(cover, target)
            os.close(cover)
        finally:
            os.close(target)


def _open(stage: Stage, path: str) -> int:
    try:
        return paths.open_in_root(stage.root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return -1
