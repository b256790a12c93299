"""The container's terminal: a pty of its own devpts (pts(4), config.md "process.terminal")."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from sampan.lean.record import dataclass
from sampan.linux import mount, paths, process, procfs
from sampan.runtime import target
from sampan.runtime.operation import Stage

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_DEVPTS_MAGIC = 0x1CD1


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
        devpts = stage.devpts if stage.devpts >= 0 else find_devpts(stage.root)
        self.master, self.peer = open_pty(devpts)
        number = struct.unpack("i", fcntl.ioctl(self.master, _TIOCGPTN, bytes(4)))[0]
        if self.height or self.width:
            process.set_window_size(self.master, self.height, self.width)
        dev = target.open_directory(stage.root, "/dev")
        try:
            place = _console(dev)
            try:
                cover = mount.clone_tree(str(number), devpts)
                mount.attach(cover, place)
                os.close(cover)
            finally:
                os.close(place)
        finally:
            os.close(dev)


def _console(dev: int) -> int:
    """/dev/console as an O_PATH descriptor, made if missing; never a link that leads elsewhere (CVE-2025-52565)."""
    try:
        os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=dev))
    except FileExistsError:
        pass
    place = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    mode = os.fstat(place).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(place)
        raise OSError(errno.EEXIST, "must be an ordinary file or a device, not a link", "/dev/console")
    return place


def find_devpts(root: int) -> int:
    """A root's devpts by descriptor: of a /dev that was bound as a whole, or of a container that runs, which may have
    put anything there, a ptmx that is a link or a device of its choice (CVE-2025-52565). The caller closes it. Raises
    OSError.
    """
    try:
        fd = paths.open_in_root(root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        fd = -1
    if fd < 0 or procfs.magic(fd) != _DEVPTS_MAGIC:
        raise OSError(errno.ENODEV, "a terminal needs a mount of type devpts there", "/dev/pts")
    return fd


def open_pty(devpts_directory: int) -> tuple[int, int]:
    """(master, peer) of a new pty in the devpts that a descriptor refers to."""
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts_directory)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    return master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
