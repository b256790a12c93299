"""Operations on /dev: device nodes and links."""

from __future__ import annotations

import errno
import os
import stat

from sampan.lean.record import dataclass
from sampan.linux import mount, paths
from sampan.runtime import target
from sampan.runtime.operation import Stage

KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

# config-linux.md, "Default Devices": these are supplied whatever the spec lists.
LINKS = (
    ("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"), ("pts/ptmx", "ptmx"), ("/proc/kcore", "core"),
)
DEFAULTS = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))


@dataclass(frozen=True)
class PopulateDev:
    """The devices and links every container has, in a fresh /dev (config-linux.md, "Default Devices").

    What is there already stays, but for ptmx: an image's own would be a pty of the host's.
    """

    def describe(self) -> str:
        return "make null, zero, full, random, urandom, tty and the links in /dev"

    def apply(self, stage: Stage) -> None:
        dev = target.open_directory(stage.root, "/dev")
        old = os.umask(0)
        try:
            for name, major, minor in DEFAULTS:
                try:
                    os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=dev)
                except FileExistsError:
                    pass  # /dev of the image: what is there stays
                except PermissionError:
                    bind_node(dev, name, f"/dev/{name}", os.makedev(major, minor), stat.S_IFCHR)
            for to, name in LINKS:
                if name != "core" or os.path.exists(to):  # Linux without CONFIG_PROC_KCORE has none
                    _link(dev, to, name)
        finally:
            os.umask(old)
            os.close(dev)


def _link(dev: int, to: str, name: str) -> None:
    try:
        os.symlink(to, name, dir_fd=dev)
    except FileExistsError:
        if name == "ptmx" and not stat.S_ISDIR(os.stat(name, dir_fd=dev, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=dev)
            os.symlink(to, name, dir_fd=dev)


@dataclass(frozen=True)
class MakeDevice:
    """One device node, with its mode and owner; directories above it are made. `path` is clean (target.clean).

    In a user namespace nobody may make device nodes: `prepared` is the descriptor of a mount of one that the runtime
    made (device_sources.py); it is closed. Without it, -1, the host's is bound, and keeps its mode and owner, which are
    the host's. A node that is there already must be the one asked for.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    prepared: int = -1

    def describe(self) -> str:
        return f"make device {self.path} ({self.kind} {self.major}:{self.minor})"

    def apply(self, stage: Stage) -> None:
        if self.path.startswith("/dev/"):
            os.close(target.open_directory(stage.root, "/dev"))  # made, and no link (CVE-2026-41579)
        parent = self.path.rpartition("/")[0]
        os.close(paths.ensure_dir(stage.root, parent or "/", 0o755, 0, 0))
        directory, name = paths.open_parent(stage.root, self.path)
        old = os.umask(0)
        try:
            self._make(directory, name)
        finally:
            os.umask(old)
            os.close(directory)

    def _make(self, directory: int, name: str) -> None:
        kind, number = KINDS[self.kind], os.makedev(self.major, self.minor)
        if self.prepared >= 0:
            _cover(directory, name, self.path, kind, self.prepared)
            return
        try:
            self.make_node(directory, name, self.uid, self.gid)
        except FileExistsError:
            self._adjust(directory, name, kind, number)
        except PermissionError:
            bind_node(directory, name, self.path, number, kind)

    def make_node(self, directory: int, name: str, uid: int, gid: int) -> None:
        """mknod(2) `name` in a directory, with an owner; the umask is the caller's to lift. Raises OSError."""
        number = os.makedev(self.major, self.minor) if self.kind != "p" else 0
        os.mknod(name, self.mode | KINDS[self.kind], number, dir_fd=directory)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    def _adjust(self, directory: int, name: str, kind: int, number: int) -> None:
        """What is there gets the mode and owner asked for: by its descriptor, it might be swapped for a link."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(fd)
            if stat.S_IFMT(status.st_mode) != kind or (self.kind != "p" and status.st_rdev != number):
                raise OSError(errno.EEXIST, "something else is there already", self.path)
            if status.st_dev == os.fstat(directory).st_dev:  # not one that is bound: that is the host's
                os.chmod(f"/proc/self/fd/{fd}", self.mode)
                os.chown(f"/proc/self/fd/{fd}", self.uid, self.gid)
        finally:
            os.close(fd)


def bind_node(directory: int, name: str, path: str, number: int, kind: int) -> None:
    """Put the host's node of a device at `name` in a directory: the one at the same path, or wherever the kernel's
    own name for it is. The file below is left if it is there. Raises OSError with the path.
    """
    source = _host_node(path, number, kind)
    try:
        _cover(directory, name, path, kind, mount.clone_tree("", source))
    finally:
        os.close(source)


def _cover(directory: int, name: str, path: str, kind: int, cover: int) -> None:
    """Attach the mount of a node at `name`, where a file is made if nothing is. Closes `cover`."""
    try:
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=directory))
        except FileExistsError:
            pass
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if stat.S_IFMT(os.fstat(place).st_mode) not in (stat.S_IFREG, kind):
                raise OSError(errno.EEXIST, "something else is there already", path)
            mount.attach(cover, place)
        finally:
            os.close(place)
    finally:
        os.close(cover)


def _host_node(path: str, number: int, kind: int) -> int:
    """The host's node by descriptor, seen to be the device that was meant (CVE-2025-31133)."""
    for candidate in (path, _kernels_name(number, kind)):
        try:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(candidate, flags)  # allowed: the host's /dev, looked at only
        except (FileNotFoundError, NotADirectoryError):
            continue
        status = os.fstat(fd)
        if stat.S_IFMT(status.st_mode) == kind and status.st_rdev == number:
            return fd
        os.close(fd)
    reason = "cannot be made in a user namespace, and the host has no such device to bind"
    raise OSError(errno.EPERM, reason, path)


def _kernels_name(number: int, kind: int) -> str:
    """The path that the kernel's device manager gives a device, "" for none: DEVNAME of its uevent (sysfs)."""
    group = "block" if kind == stat.S_IFBLK else "char"
    try:
        with open(f"/sys/dev/{group}/{os.major(number)}:{os.minor(number)}/uevent", encoding="utf-8") as file:
            return next((f"/dev/{line[8:].rstrip()}" for line in file if line.startswith("DEVNAME=")), "")
    except OSError:
        return ""  # no such device, or no sysfs
