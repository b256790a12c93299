"""Operations on the root: private mounts, the container's root file system, entering it."""

from __future__ import annotations

import os

from sampan.lean.record import dataclass
from sampan.linux import mount, process
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class DetachPropagation:
    """Nothing mounted from here on reaches the host; what the host mounts still arrives (slave) or not (private)."""

    private: bool = True

    def describe(self) -> str:
        return f"make / {'private' if self.private else 'a slave'} recursively"

    def apply(self, stage: Stage) -> None:
        mount.set_propagation("/", (mount.MS_PRIVATE if self.private else mount.MS_SLAVE) | mount.MS_REC)


@dataclass(frozen=True)
class MountOverlay:
    """The root: image layers (topmost first) below a writable one, attached at `at`, an existing directory."""

    lower: tuple[str, ...]
    upper: str
    work: str
    at: str

    def describe(self) -> str:
        return f"mount overlay of {len(self.lower)} layers, upper {self.upper}"

    def apply(self, stage: Stage) -> None:
        stage.root = mount.overlay(list(self.lower), self.upper, self.work)
        _attach_at(stage.root, self.at)


@dataclass(frozen=True)
class BindRoot:
    """The root: an existing directory, as a mount of its own."""

    path: str
    at: str

    def describe(self) -> str:
        return f"bind {self.path} as the root"

    def apply(self, stage: Stage) -> None:
        stage.root = mount.clone_tree(self.path, recursive=True)
        _attach_at(stage.root, self.at)


def _attach_at(mount_fd: int, directory: str) -> None:
    target = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mount.attach(mount_fd, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, directory) from error
    finally:
        os.close(target)


@dataclass(frozen=True)
class EnterRoot:
    """pivot_root into the root and let go of the host's. From here on no name of the host can be reached."""

    propagation: int = mount.MS_PRIVATE

    def describe(self) -> str:
        return "pivot_root, detach the host's root"

    def apply(self, stage: Stage) -> None:
        os.fchdir(stage.root)
        process.pivot_root_here()
        mount.detach(".")
        os.chdir("/")
        if self.propagation != mount.MS_PRIVATE:
            mount.set_propagation("/", self.propagation)


@dataclass(frozen=True)
class ReadonlyRoot:
    """The root mount itself becomes read-only; mounts inside keep their own attributes."""

    def describe(self) -> str:
        return "make the root read-only"

    def apply(self, stage: Stage) -> None:
        mount.set_attributes(stage.root, mount.ATTR_RDONLY)
