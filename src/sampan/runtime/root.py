"""Operations on the root: propagation, the container's root file system, entering it."""

from __future__ import annotations

import errno
import os

from sampan.lean.record import dataclass
from sampan.linux import mount, mountinfo, process
from sampan.runtime.operation import Stage


@dataclass(frozen=True)
class DetachPropagation:
    """What the host's mounts have to do with ours from here on (mount_namespaces(7)).

    `propagation` are MS_… flags of rootfsPropagation, 0 for none given. Private or unbindable: nothing. Slave, and none
    given, as runc: nothing mounted here reaches the host, what the host mounts still arrives. Shared: they stay peers,
    so that a volume with shared propagation works, and only what we attach ourselves stays ours (`_private_parent`).
    """

    propagation: int = mount.MS_PRIVATE

    def describe(self) -> str:
        kind = {mount.MS_SHARED: "shared", mount.MS_PRIVATE: "private", mount.MS_UNBINDABLE: "private"}
        return f"make / {kind.get(self.propagation & ~mount.MS_REC, 'a slave')} recursively"

    def apply(self, stage: Stage) -> None:
        if self.propagation & mount.MS_SHARED:
            stage.shared = True
            return
        stage.private = bool(self.propagation & (mount.MS_PRIVATE | mount.MS_UNBINDABLE))
        mount.set_propagation("/", (mount.MS_PRIVATE if stage.private else mount.MS_SLAVE) | mount.MS_REC)


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
        _attach_at(stage, self.at)


@dataclass(frozen=True)
class BindRoot:
    """The root: an existing directory, as a mount of its own, with what is mounted below it.

    `prepared` is the descriptor of such a mount, detached, made by who may come to it (mount_sources.py), or -1.
    """

    path: str
    at: str
    prepared: int = -1

    def describe(self) -> str:
        return f"bind {self.path} as the root"

    def apply(self, stage: Stage) -> None:
        if self.prepared >= 0:
            stage.root = self.prepared
        else:
            if stage.shared:
                _private_parent(_open_directory(self.path))
            stage.root = mount.clone_tree(self.path, recursive=True)
        _attach_at(stage, self.at)
        if self.prepared >= 0 and stage.private:
            mount.set_attributes(stage.root, propagation=mount.MS_PRIVATE, recursive=True)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # allowed: the root's own path, given by the caller


def _attach_at(stage: Stage, directory: str) -> None:
    try:
        place = _open_directory(directory)
    except PermissionError:  # below a directory that is closed to a user namespace's root: any other place will do
        place = _open_directory("/")
    try:
        if stage.shared:
            _private_parent(os.dup(place))
        mount.attach(stage.root, place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, directory) from error
    finally:
        os.close(place)


def _private_parent(directory: int) -> None:
    """Make the mount that a directory lies on private, here and not on the host. Closes the descriptor.

    What is attached below a shared mount would appear on the host, and pivot_root(2) refuses a root below one. Only
    the top of a mount can be changed: on the way up to it every other directory is EINVAL.
    """
    while True:
        try:
            mount.set_attributes(directory, propagation=mount.MS_PRIVATE)
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
            if os.path.samestat(os.fstat(above), os.fstat(directory)):
                os.close(above)
                reason = "a shared root is not possible below a chroot: what is mounted would appear outside"
                raise OSError(errno.EINVAL, reason, "/") from error
        finally:
            os.close(directory)
        directory = above


@dataclass(frozen=True)
class EnterRoot:
    """pivot_root into the root and let go of the host's. From here on no name of the host can be reached.

    `propagation`: what the root becomes, MS_… flags or 0 to leave it; MS_PRIVATE it is already.
    """

    propagation: int = mount.MS_PRIVATE

    def describe(self) -> str:
        return "pivot_root, detach the host's root"

    def apply(self, stage: Stage) -> None:
        shared = self.propagation & mount.MS_SHARED
        old = _open_directory("/") if shared else -1
        os.fchdir(stage.root)
        try:
            process.pivot_root_here()
        except OSError as error:
            raise _refused(error) from error
        if shared:  # the unmounting below must not reach the host
            os.fchdir(old)
            os.close(old)
            mount.set_propagation(".", mount.MS_SLAVE | mount.MS_REC)
        mount.detach(".")
        os.chdir("/")
        _propagate(self.propagation)


@dataclass(frozen=True)
class EnterRootWithoutPivot:
    """The root is moved over the host's and entered with chroot, for hosts that run from an initramfs (`--no-pivot`).

    The host's mounts stay below, out of sight. A whole procfs or sysfs among them would let the container mount a new
    one, without our masks, even in a user namespace (mount_too_revealing in the kernel): they go, or are covered.
    """

    propagation: int = mount.MS_PRIVATE

    def describe(self) -> str:
        return "move the root over the host's, chroot"

    def apply(self, stage: Stage) -> None:
        here = _open_directory("/")
        if stage.shared:
            _private_parent(os.dup(here))
        self._hide_revealing(stage)
        try:
            mount.attach(stage.root, here)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "/") from error
        finally:
            os.close(here)
        os.fchdir(stage.root)
        os.chroot(".")
        os.chdir("/")
        _propagate(self.propagation)

    def _hide_revealing(self, stage: Stage) -> None:
        """The latest first, so that those below it on the same place come to light. What cannot be reached by its path,
        because something else covers it, stays: no path of the container leads there either.
        """
        information = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # /proc itself will go
        try:
            for number, place in reversed(_revealing(_mount_id(information, stage.root))):
                try:
                    top = _open_directory(place)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                try:
                    if _mount_id(information, top) == number:
                        _hide(top, place, stage.shared)
                finally:
                    os.close(top)
        finally:
            os.close(information)


def _propagate(flags: int) -> None:
    if flags and flags != mount.MS_PRIVATE:
        mount.set_propagation("/", flags)


def _refused(error: OSError) -> OSError:
    reason = error.strerror
    if error.errno == errno.EINVAL:
        reason = (
            "pivot_root is not possible here: the host runs from an initramfs, or below a chroot "
            "(--no-pivot does without it)"
        )
    return OSError(error.errno, reason, "/")


def _mount_id(information: int, fd: int) -> int:
    """`information` is the directory /proc/self/fdinfo."""
    with open(os.open(str(fd), os.O_RDONLY | os.O_CLOEXEC, dir_fd=information), encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _revealing(root: int) -> list[tuple[int, str]]:
    """Whole procfs and sysfs mounts (mount id, place), but for those of the container, which lie below `root`."""
    mounts = mountinfo.own()
    parents = {each.id: each.parent for each in mounts}
    return [
        (each.id, each.target) for each in mounts
        if each.root == "/" and each.kind in ("proc", "sysfs") and not _is_below(each.id, root, parents)
    ]


def _is_below(number: int, root: int, parents: dict[int, int]) -> bool:
    while number != root:
        above = parents.get(number, number)
        if above == number:
            return False
        number = above
    return True


def _hide(top: int, place: str, shared: bool) -> None:
    """Take a mount away, or cover it where the user namespace that made it has it locked.

    `shared`: a peer on the host would be unmounted too, with all that is mounted below: they become ours first.
    """
    if shared:
        mount.set_attributes(top, propagation=mount.MS_PRIVATE, recursive=True)
        _private_parent(os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top))
    try:
        mount.detach(place)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        cover = mount.new("tmpfs", {"source": "tmpfs", "nr_inodes": "1"}, mount.ATTR_RDONLY)
        mount.attach(cover, top)
        os.close(cover)


@dataclass(frozen=True)
class ReadonlyRoot:
    """The root mount itself becomes read-only; mounts inside keep their own attributes."""

    def describe(self) -> str:
        return "make the root read-only"

    def apply(self, stage: Stage) -> None:
        mount.set_attributes(stage.root, mount.ATTR_RDONLY)
