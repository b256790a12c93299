"""Operations on /dev: device nodes, links, the console."""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from sampan.lean.record import dataclass
from sampan.linux import mount, paths
from sampan.runtime.operation import Stage

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}

# config-linux.md, "Default Devices": these are supplied whatever the spec lists.
LINKS = (
    ("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"), ("pts/ptmx", "ptmx"), ("/proc/kcore", "core"),
)
DEFAULTS = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))


@dataclass(frozen=True)
class PopulateDev:
    """The devices and links every container has, in a fresh /dev (config-linux.md, "Default Devices")."""

    core: bool = False

    def describe(self) -> str:
        return "make null, zero, full, random, urandom, tty and the links in /dev"

    def apply(self, stage: Stage) -> None:
        dev = paths.open_in_root(stage.root, "/dev", os.O_PATH | os.O_DIRECTORY)
        old = os.umask(0)
        try:
            for name, major, minor in DEFAULTS:
                try:
                    os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=dev)
                except FileExistsError:
                    pass  # /dev of the image or of the host: what is there stays
            for target, name in LINKS:
                if name != "core" or self.core:
                    try:
                        os.symlink(target, name, dir_fd=dev)
                    except FileExistsError:
                        pass
        finally:
            os.umask(old)
            os.close(dev)


@dataclass(frozen=True)
class MakeDevice:
    """One device node, with its mode and owner; directories above it are made."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"make device {self.path} ({self.kind} {self.major}:{self.minor})"

    def apply(self, stage: Stage) -> None:
        parent = self.path.rpartition("/")[0]
        os.close(paths.ensure_dir(stage.root, parent or "/", 0o755, 0, 0))
        directory, name = paths.open_parent(stage.root, self.path)
        old = os.umask(0)
        try:
            try:
                os.mknod(name, self.mode | _KINDS[self.kind], os.makedev(self.major, self.minor), dir_fd=directory)
            except FileExistsError:
                self._check(directory, name)
            os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        finally:
            os.umask(old)
            os.close(directory)

    def _check(self, directory: int, name: str) -> None:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        same = stat.S_IFMT(status.st_mode) == _KINDS[self.kind]
        if not same or (self.kind != "p" and status.st_rdev != os.makedev(self.major, self.minor)):
            raise OSError(17, "something else is there already", self.path)


@dataclass
class OpenConsole:
    """A pty of the container's own devpts: its far end becomes stdio and /dev/console; the near end goes to the shim.

    The peer is got from the master (TIOCGPTPEER, Linux 4.13), never by the name /dev/pts/N (CVE-2025-52565).
    """

    height: int = 0
    width: int = 0
    master: int = -1
    peer: int = -1

    def describe(self) -> str:
        return "open a pseudoterminal, bind it on /dev/console"

    def apply(self, stage: Stage) -> None:
        self.master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=stage.devpts)
        fcntl.ioctl(self.master, _TIOCSPTLCK, struct.pack("i", 0))
        self.peer = fcntl.ioctl(self.master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        number = struct.unpack("i", fcntl.ioctl(self.master, _TIOCGPTN, bytes(4)))[0]
        if self.height or self.width:
            size = struct.pack("HHHH", self.height, self.width, 0, 0)
            fcntl.ioctl(self.master, 0x5414, size)  # TIOCSWINSZ
        dev = paths.open_in_root(stage.root, "/dev", os.O_PATH | os.O_DIRECTORY)
        try:
            try:
                os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev))
            except FileExistsError:
                pass
            target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
            cover = mount.clone_tree(str(number), stage.devpts)
            mount.attach(cover, target)
            os.close(cover)
            os.close(target)
        finally:
            os.close(dev)


def open_pty(devpts_directory: int) -> tuple[int, int]:
    """(master, peer) of a new pty in the devpts a descriptor refers to; for a process that joins a container."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts_directory)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
