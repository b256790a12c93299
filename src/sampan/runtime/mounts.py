"""Operations that mount inside the root. Targets are resolved once, in the root, and mounted on by descriptor."""

from __future__ import annotations

import errno
import os
import stat

from sampan.lean.record import dataclass
from sampan.linux import mount, overlay, paths
from sampan.runtime import copy_up, target
from sampan.runtime.operation import Stage
from sampan.runtime.options import MountOptions

# "ro" as a flag of the superblock too, as mount(8) gives it; but a tmpfs gets its mount points, /proc its sysctls first
_WRITABLE_SUPERBLOCK = ("tmpfs", "proc")
# file systems without files of their own to label, where the kernel refuses `context=`
_WITHOUT_LABEL = ("proc", "sysfs")
_NEEDS = {
    "proc": "in a user namespace procfs needs a pid namespace of its own, and a /proc here that nothing covers in part",
    "sysfs": "in a user namespace sysfs needs a network namespace of its own; otherwise bind /sys",
    "mqueue": "in a user namespace mqueue needs an ipc namespace of its own",
}


@dataclass(frozen=True)
class MountFilesystem:
    """A fresh file system (proc, sysfs, tmpfs, devpts, mqueue, overlay, …) at `destination`, made if missing.

    `destination` is clean (target.clean). A tmpfs takes the mode of the directory it covers, unless an option says
    otherwise. `label` is the SELinux context of what is in it ("": none).
    """

    kind: str
    source: str
    destination: str
    options: MountOptions
    label: str = ""

    def describe(self) -> str:
        return f"mount {self.kind} on {self.destination}"

    def apply(self, stage: Stage) -> None:
        place, existed = target.directory(stage.root, self.destination)
        try:
            target.check(place, self.destination, self.kind == "proc")
            fd = self._make(place if existed else -1)
            mount.attach(fd, place)
        finally:
            os.close(place)
        mount.propagate(fd, self.options.propagation)
        self._keep(stage, fd)

    def _make(self, covered: int) -> int:
        options: dict[str, str | None] = {"source": self.source or self.kind}
        options |= dict.fromkeys(self.options.superblock)
        if self.kind == "tmpfs" and covered >= 0:
            options["mode"] = f"{stat.S_IMODE(os.fstat(covered).st_mode):o}"
        options |= self.options.data
        if self.label and self.kind not in _WITHOUT_LABEL:
            options["context"] = self.label
        attributes = self.options.set
        if self._writable_at_first():
            attributes &= ~mount.ATTR_RDONLY
        elif self.options.read_only and self.kind not in _WRITABLE_SUPERBLOCK:
            options["ro"] = None
        try:
            fd = overlay.new(options, attributes) if self.kind == "overlay" else mount.new(
                self.kind, options, attributes)
        except PermissionError as error:
            if self.kind not in _NEEDS:
                raise
            raise OSError(error.errno, _NEEDS[self.kind], self.kind) from error
        if self.options.recursive_set:
            mount.set_attributes(fd, self.options.recursive_set & ~(mount.ATTR_RDONLY * self._writable_at_first()))
        if self.options.copy_up and covered >= 0 and self.kind == "tmpfs":
            copy_up.copy(covered, fd)
        return fd

    def _writable_at_first(self) -> bool:
        """A read-only /dev or tmpfs is filled first, and mounts go below it: ReadonlyMounts has the last word."""
        return self.kind == "tmpfs" or self.destination in ("/dev", "/proc")

    def _keep(self, stage: Stage, fd: int) -> None:
        later = self._writable_at_first() and (self.options.set | self.options.recursive_set) & mount.ATTR_RDONLY
        if later:
            stage.readonly_later.append(fd)
        if self.destination == "/proc" and self.kind == "proc":
            stage.proc = fd
        elif self.destination == "/dev/pts" and self.kind == "devpts":
            stage.devpts = fd
        elif not later:
            os.close(fd)


@dataclass(frozen=True)
class ReadonlyMounts:
    """What was asked for read-only and had to be filled first becomes so now."""

    def describe(self) -> str:
        return "make filled mounts read-only"

    def apply(self, stage: Stage) -> None:
        for fd in stage.readonly_later:
            mount.set_attributes(fd, mount.ATTR_RDONLY)


@dataclass(frozen=True)
class BindMount:
    """A file or directory of the host inside the root. The target is made after the source's kind if missing.

    `destination` is clean. `prepared` is the descriptor of a detached mount of the source, made by somebody who may do
    what we may not (mount_sources.py), or -1; it is closed. Without a propagation among the options it stays as the
    source's mount has it, as with mount(8).
    """

    source: str
    destination: str
    options: MountOptions
    prepared: int = -1

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}{' read-only' if self.options.read_only else ''}"

    def apply(self, stage: Stage) -> None:
        fd = self.prepared if self.prepared >= 0 else open_source(self.source, self.options)
        keep = False
        try:
            self._configure(fd)
            place = self._target(stage.root, stat.S_ISDIR(os.fstat(fd).st_mode))
            try:
                procfs = target.is_procfs(fd)
                target.check(place, self.destination, procfs)
                mount.attach(fd, place)
            finally:
                os.close(place)
            if self.prepared >= 0 and stage.private:
                mount.set_attributes(fd, propagation=mount.MS_PRIVATE, recursive=True)
            mount.propagate(fd, self.options.propagation)
            if procfs and self.destination == "/proc":
                stage.proc, keep = fd, True
        finally:
            if not keep:
                os.close(fd)

    def _configure(self, fd: int) -> None:
        """Recursive ones last, whatever the order among the options: as runc and crun have it, and `remount`."""
        options = self.options
        if options.set or options.clear:
            _set_attributes(fd, options.set, options.clear, False)
        if options.recursive_set or options.recursive_clear:
            _set_attributes(fd, options.recursive_set, options.recursive_clear, True)

    def _target(self, root: int, directory: bool) -> int:
        if directory:
            return target.open_directory(root, self.destination)
        place = target.open_file(root, self.destination)
        if stat.S_ISDIR(os.fstat(place).st_mode):
            os.close(place)
            raise OSError(errno.EISDIR, "a file cannot be mounted on a directory", self.destination)
        return place


@dataclass(frozen=True)
class Remount:
    """Other attributes for a mount that is there already; without `bind`, other options of its file system too."""

    destination: str
    options: MountOptions

    def describe(self) -> str:
        return f"remount {self.destination}"

    def apply(self, stage: Stage) -> None:
        place = paths.open_in_root(stage.root, self.destination, os.O_PATH)
        try:
            if not self.options.bind and (self.options.data or self.options.superblock):
                self._reconfigure(place)
            options = self.options
            _set_attributes(place, options.set, options.clear, False)
            if options.recursive_set or options.recursive_clear:
                _set_attributes(place, options.recursive_set, options.recursive_clear, True)
            mount.propagate(place, options.propagation)
        except OSError as error:
            if error.errno == errno.EINVAL and error.filename is None:
                raise OSError(errno.EINVAL, "is not a mount point", self.destination) from error
            raise
        finally:
            os.close(place)

    def _reconfigure(self, place: int) -> None:
        filesystem = mount.Filesystem("remount", place)
        try:
            for flag in self.options.superblock:
                filesystem.set(flag)
            for key, value in self.options.data.items():
                filesystem.set(key, value)
            filesystem.reconfigure()
        finally:
            filesystem.close()


def open_source(source: str, options: MountOptions) -> int:
    """A detached mount of a bind's source. Raises OSError with the path."""
    try:
        return mount.clone_tree(source, recursive=options.recursive)
    except OSError as error:
        if error.errno == errno.EINVAL and not options.recursive:
            reason = "mounts below it are locked by another user namespace: it can only be bound with rbind"
            raise OSError(errno.EINVAL, reason, source) from error
        raise


def _set_attributes(fd: int, set_: int, clear: int, recursive: bool) -> None:
    try:
        mount.set_attributes(fd, set_, clear, recursive)
    except PermissionError as error:
        reason = "options of its source are locked by another user namespace: nosuid, nodev, noexec, ro, atime stay"
        raise OSError(error.errno, reason) from error
