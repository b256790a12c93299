"""Mounts by file descriptor: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

A mount is made detached, given its attributes, and attached on a descriptor of its target, so no path that a
container can change is ever resolved between check and use (CVE-2021-30465). Kernel ≥ 5.12.
"""

from __future__ import annotations

import errno
import os

from sampan.lean import ctypes
from sampan.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_ATIME = 0x70  # the mask of the three below; relatime is 0
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_IDMAP = 0x100000
ATTR_NOSYMFOLLOW = 0x200000  # Linux 5.14

_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_AT_NO_AUTOMOUNT = 0x800
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_F_EMPTY_PATH = 0x4
_T_EMPTY_PATH = 0x40
_FSPICK_EMPTY_PATH_CLOEXEC = 0x8 | 0x1
_SET_FLAG, _SET_STRING, _CMD_CREATE, _CMD_RECONFIGURE = 0, 1, 6, 7
_MNT_DETACH = 2

_mount = libc.lib.mount
_umount2 = libc.lib.umount2
_AT_FDCWD = ctypes.c_int(-100)


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


class Filesystem:
    """A file system being configured: a new one (fsopen; set options, then `mount()` it once), or with `mounted`, a
    mount's fd, one that is there (fspick; set options, then `reconfigure()` it). OSError ENODEV: no such file system.
    """

    def __init__(self, kind: str, mounted: int = -1) -> None:
        self.kind = kind
        if mounted >= 0:
            flags = ctypes.c_uint(_FSPICK_EMPTY_PATH_CLOEXEC)
            self.fd = libc.syscall(libc.NR_FSPICK, ctypes.c_int(mounted), b"", flags)
            return
        try:
            self.fd = libc.syscall(libc.NR_FSOPEN, kind.encode(), ctypes.c_uint(_FSOPEN_CLOEXEC))
        except OSError as error:
            unknown = "this kernel has no such file system" if error.errno == errno.ENODEV else error.strerror
            raise OSError(error.errno, unknown, kind) from error

    def set(self, key: str, value: str | None = None) -> None:
        """Set `key=value`, or the flag `key`. OSError carries the kernel's own words where it gives any."""
        try:
            libc.syscall(
                libc.NR_FSCONFIG, ctypes.c_int(self.fd), ctypes.c_uint(_SET_FLAG if value is None else _SET_STRING),
                key.encode(), None if value is None else value.encode(), ctypes.c_int(0),
            )
        except OSError as error:
            raise self._explained(error, key if value is None else f"{key}={value}") from error

    def mount(self, attributes: int = 0) -> int:
        """Create the superblock and a detached mount of it; returns the mount's fd and ends the configuration."""
        try:
            zero = ctypes.c_int(0)
            libc.syscall(libc.NR_FSCONFIG, ctypes.c_int(self.fd), ctypes.c_uint(_CMD_CREATE), None, None, zero)
            return libc.syscall(
                libc.NR_FSMOUNT, ctypes.c_int(self.fd), ctypes.c_uint(_FSMOUNT_CLOEXEC), ctypes.c_uint(attributes)
            )
        except OSError as error:
            raise self._explained(error, "mount") from error
        finally:
            self.close()

    def reconfigure(self) -> None:
        """Apply what was set to the file system that was picked: what `mount -o remount` does to a superblock."""
        try:
            zero = ctypes.c_int(0)
            libc.syscall(libc.NR_FSCONFIG, ctypes.c_int(self.fd), ctypes.c_uint(_CMD_RECONFIGURE), None, None, zero)
        except OSError as error:
            raise self._explained(error, "remount") from error

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _explained(self, error: OSError, what: str) -> OSError:
        """Reading the configuration's fd gives the kernel's log of it, e.g. "e overlay: …" (fsopen's message queue)."""
        words = []
        try:
            while text := os.read(self.fd, 4096):
                words.append(text.decode(errors="replace").strip()[2:])
        except OSError:
            pass  # ENODATA: that was all the kernel had to say
        return OSError(error.errno, "; ".join(words) or error.strerror, f"{self.kind} {what}")


def new(kind: str, options: dict[str, str | None] | None = None, attributes: int = 0) -> int:
    """A detached mount of a fresh file system `kind`. Returns its fd, which works as a directory fd at once."""
    filesystem = Filesystem(kind)
    try:
        for key, value in (options or {}).items():
            filesystem.set(key, value)
        return filesystem.mount(attributes)
    finally:
        filesystem.close()


def overlay(lower: list[str], upper: str | None = None, work: str | None = None, attributes: int = 0) -> int:
    """A detached overlay mount; `lower` is topmost first, at most 500. Returns its fd.

    Renamed directories are copied, and files wholly: what redirect_dir and metacopy leave in an upper directory means
    nothing in another stack of layers. One `lowerdir+` per layer needs Linux 6.5; an older kernel refuses it, some at
    once and some only when it mounts: see `_overlay_by_fd`.
    """
    filesystem = Filesystem("overlay")
    try:
        for directory in lower:
            filesystem.set("lowerdir+", directory)
        return _mount_overlay(filesystem, upper, work, attributes)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _overlay_by_fd(lower, upper, work, attributes)
    finally:
        filesystem.close()


def _mount_overlay(filesystem: Filesystem, upper: str | None, work: str | None, attributes: int) -> int:
    filesystem.set("source", "overlay")
    filesystem.set("redirect_dir", "off")
    filesystem.set("metacopy", "off")
    if upper is not None and work is not None:
        filesystem.set("upperdir", upper)
        filesystem.set("workdir", work)
    return filesystem.mount(attributes)


def _overlay_by_fd(lower: list[str], upper: str | None, work: str | None, attributes: int) -> int:
    """Older kernels take one string for all layers, which fsconfig(2) bounds at 256 bytes: so each is a descriptor's
    number, looked up below /proc/self/fd, the current directory meanwhile. That makes room for about 60 layers.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    names = [*lower, *([upper, work] if upper is not None and work is not None else [])]
    fds: list[int] = []
    filesystem = Filesystem("overlay")
    try:
        for name in names:
            fds.append(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        os.chdir("/proc/self/fd")
        filesystem.set("lowerdir", ":".join(str(fd) for fd in fds[: len(lower)]))
        if upper is not None and work is not None:
            upper, work = str(fds[-2]), str(fds[-1])
        return _mount_overlay(filesystem, upper, work, attributes)
    finally:
        os.fchdir(here)
        filesystem.close()
        for fd in (here, *fds):
            os.close(fd)


def clone_tree(source: str, directory_fd: int = -100, recursive: bool = False) -> int:
    """A detached bind of `source` (relative to `directory_fd`; "" is that fd itself). Returns its fd."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | _AT_NO_AUTOMOUNT
    if recursive:
        flags |= _AT_RECURSIVE
    try:
        return libc.syscall(libc.NR_OPEN_TREE, ctypes.c_int(directory_fd), source.encode(), ctypes.c_uint(flags))
    except OSError as error:
        raise OSError(error.errno, error.strerror, source or f"fd {directory_fd}") from error


def set_attributes(
    mount_fd: int, set_: int = 0, clear: int = 0, recursive: bool = False, propagation: int = 0, userns_fd: int = 0
) -> None:
    """mount_setattr(2) on a mount's fd; ATTR_… to set and clear, MS_… propagation, a user namespace to map by."""
    attr = _MountAttr(set_, clear, propagation, userns_fd)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    libc.syscall(
        libc.NR_MOUNT_SETATTR, ctypes.c_int(mount_fd), b"", ctypes.c_uint(flags),
        ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)),
    )


def propagate(mount_fd: int, kinds: Iterable[int]) -> None:
    """Set MS_PRIVATE, MS_SLAVE, …, each perhaps with MS_REC, one after the other: slave and shared may both be wanted.

    To be called once the mount is attached, so that it is not a question whether the kernel lets us do so before.
    """
    for flags in kinds:
        set_attributes(mount_fd, propagation=flags & ~MS_REC, recursive=bool(flags & MS_REC))


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach a detached mount onto what `target_fd` (O_PATH) refers to. Raises OSError."""
    libc.syscall(
        libc.NR_MOVE_MOUNT, ctypes.c_int(mount_fd), b"", ctypes.c_int(target_fd), b"",
        ctypes.c_uint(_F_EMPTY_PATH | _T_EMPTY_PATH),
    )


def set_propagation(path: str, flags: int) -> None:
    """Change the propagation of a mount point: MS_PRIVATE, MS_SLAVE, … with MS_REC. Raises OSError."""
    if _mount(b"none", path.encode(), None, ctypes.c_ulong(flags), None) != 0:
        raise libc.error(path)


def detach(path: str) -> None:
    """Lazily unmount `path` and all below it (MNT_DETACH)."""
    if _umount2(path.encode(), ctypes.c_int(_MNT_DETACH)) != 0:
        raise libc.error(path)
