"""Operations that mount inside the root. Targets are resolved once, in the root, and mounted on by descriptor."""

from __future__ import annotations

import errno
import os
import stat

from sampan.lean.record import dataclass
from sampan.linux import mount, paths
from sampan.runtime.operation import Stage
from sampan.runtime.options import MountOptions

# A symlink at one of these would send procfs, or writes to it, elsewhere
# (CVE-2019-19921, 2023-27561, 2023-28642; /dev: 2026-41579).
_NEVER_A_LINK = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class MountFilesystem:
    """A fresh file system (proc, sysfs, tmpfs, devpts, mqueue, …) at `destination`, which is made if missing."""

    kind: str
    source: str
    destination: str
    options: MountOptions

    def describe(self) -> str:
        return f"mount {self.kind} on {self.destination}"

    def apply(self, stage: Stage) -> None:
        options: dict[str, str | None] = {"source": self.source or self.kind, **self.options.data}
        fd = mount.new(self.kind, options, self.options.set)
        target = open_directory(stage.root, self.destination)
        try:
            mount.attach(fd, target)
        finally:
            os.close(target)
        if self.options.propagation:
            mount.set_attributes(fd, propagation=self.options.propagation & ~mount.MS_REC)
        if self.destination == "/proc" and self.kind == "proc":
            stage.proc = fd
        elif self.destination == "/dev/pts" and self.kind == "devpts":
            stage.devpts = fd
        else:
            os.close(fd)


@dataclass(frozen=True)
class BindMount:
    """A file or directory of the host inside the root. The target is made after the source's kind if missing."""

    source: str
    destination: str
    options: MountOptions

    def describe(self) -> str:
        return f"bind {self.source} on {self.destination}{' read-only' if self.options.set & 1 else ''}"

    def apply(self, stage: Stage) -> None:
        fd = mount.clone_tree(self.source, recursive=self.options.recursive)
        try:
            self._configure(fd)
            target = self._target(stage.root, stat.S_ISDIR(os.fstat(fd).st_mode))
            try:
                mount.attach(fd, target)
            finally:
                os.close(target)
            mount.set_attributes(  # after attaching: propagation of a detached mount may be refused
                fd, propagation=(self.options.propagation or mount.MS_PRIVATE) & ~mount.MS_REC,
                recursive=self.options.recursive,
            )
        finally:
            os.close(fd)

    def _configure(self, fd: int) -> None:
        options = self.options
        if options.set or options.clear:
            mount.set_attributes(fd, options.set, options.clear)
        if options.recursive_set or options.recursive_clear:
            mount.set_attributes(fd, options.recursive_set, options.recursive_clear, recursive=True)

    def _target(self, root: int, directory: bool) -> int:
        if directory:
            return open_directory(root, self.destination)
        return open_file(root, self.destination)


@dataclass(frozen=True)
class MountCgroups:
    """The container's view of its cgroups: v2 alone, or a tmpfs with one directory per v1 hierarchy.

    Made inside the container's cgroup namespace, so that its own group is the top of each.
    """

    destination: str
    options: MountOptions
    hierarchies: tuple[tuple[str, str], ...]  # (directory name, mount option of the v1 hierarchy); empty: v2 alone
    unified: bool  # a v2 mount at "unified" besides

    def describe(self) -> str:
        names = [name for name, _ in self.hierarchies] + (["unified"] if self.unified else [])
        return f"mount cgroup2 on {self.destination}" if not names else f"mount cgroups {', '.join(names)}"

    def apply(self, stage: Stage) -> None:
        if not self.hierarchies:
            fd = mount.new("cgroup2", {"source": "cgroup"}, self.options.set)
            self._attach(stage, fd, self.destination)
            return
        top = mount.new("tmpfs", {"source": "tmpfs", "mode": "755"}, self.options.set & ~mount.ATTR_RDONLY)
        for name in [name for name, _ in self.hierarchies] + (["unified"] if self.unified else []):
            if "," in name:
                for alias in name.split(","):
                    os.symlink(name, alias, dir_fd=top)
            os.mkdir(name, 0o755, dir_fd=top)
        self._attach(stage, top, self.destination, keep=True)
        for name, option in self.hierarchies:
            options: dict[str, str | None] = {"source": "cgroup"}
            for word in option.split(","):
                key, separator, value = word.partition("=")
                options[key] = value if separator else None
            self._mount_below(top, name, mount.new("cgroup", options, self.options.set))
        if self.unified:
            self._mount_below(top, "unified", mount.new("cgroup2", {"source": "cgroup"}, self.options.set))
        mount.set_attributes(top, self.options.set)
        os.close(top)

    def _attach(self, stage: Stage, fd: int, destination: str, keep: bool = False) -> None:
        target = open_directory(stage.root, destination)
        mount.attach(fd, target)
        os.close(target)
        if not keep:
            os.close(fd)

    def _mount_below(self, top: int, name: str, fd: int) -> None:
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        mount.attach(fd, target)
        os.close(target)
        os.close(fd)


def open_directory(root: int, path: str) -> int:
    """The directory `path` in the root as an O_PATH descriptor, made if missing; /proc, /sys, /dev are never links."""
    if path.rstrip("/") in _NEVER_A_LINK:
        return _open_plain_directory(root, path.strip("/"))
    return paths.ensure_dir(root, path, 0o755, 0, 0)


def _open_plain_directory(root: int, name: str) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=root)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=root)
        return os.open(name, flags, dir_fd=root)
    except NotADirectoryError as error:
        reason = "must be an ordinary directory in the image, not a link or a file"
        raise OSError(errno.ENOTDIR, reason, f"/{name}") from error


def open_file(root: int, path: str) -> int:
    """What is at `path` in the root as an O_PATH descriptor; an empty file is made if nothing is."""
    try:
        return paths.open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    parent = path.rstrip("/").rpartition("/")[0]
    os.close(paths.ensure_dir(root, parent or "/", 0o755, 0, 0))
    directory, name = paths.open_parent(root, path, follow=True)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=directory))
    except FileExistsError:
        pass  # made by another container that shares the directory, just now
    finally:
        os.close(directory)
    return paths.open_in_root(root, path, os.O_PATH)
