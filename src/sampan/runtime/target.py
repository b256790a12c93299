"""Where a mount goes: its target inside the root, resolved once, and mounted on by descriptor (CVE-2021-30465)."""

from __future__ import annotations

import errno
import os

from sampan.linux import paths, procfs

# A symlink at one of these would send procfs, or writes to it, elsewhere
# (CVE-2019-19921, 2023-27561, 2023-28642; /dev: 2026-41579).
_NEVER_A_LINK = ("/proc", "/sys", "/dev")
_PROC_ROOT_INODE = 1

# What LXCFS and its like put over single files of /proc. Anything else there could forge what we, or the container's
# programs, write to the kernel: a label of the LSM that is never set (CVE-2019-16884).
_OVER_PROC = frozenset((
    "/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
    "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
))


def clean(path: str) -> str:
    """The path from the root without `.`, `..` and doubled slashes, by its text alone, as Go's filepath.Clean.

    "/proc/." must be seen to be /proc. A relative path (runtime-spec before 1.0) counts from the root.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def open_directory(root: int, path: str) -> int:
    """The directory `path` in the root as an O_PATH descriptor, made if missing; /proc, /sys, /dev are never links."""
    return directory(root, path)[0]


def directory(root: int, path: str) -> tuple[int, bool]:
    """The same, and whether it was there before."""
    if path in _NEVER_A_LINK:
        return _plain_directory(root, path[1:])
    try:
        found = paths.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return paths.ensure_dir(root, path, 0o755, 0, 0), False
    if _is_root(found, root):
        os.close(found)
        raise OSError(errno.EBUSY, "leads to the root itself: nothing is mounted over it", path)
    return found, True


def _is_root(found: int, root: int) -> bool:
    """Not only its directory, which may be bound elsewhere, but its place. An image's link leads there (CVE-2015-3631):
    what joins the container would find the mount as its root.
    """
    one, other = os.fstat(found), os.fstat(root)
    if one.st_ino != other.st_ino or one.st_dev != other.st_dev:
        return False
    return os.readlink(f"/proc/self/fd/{found}") == os.readlink(f"/proc/self/fd/{root}")


def _plain_directory(root: int, name: str) -> tuple[int, bool]:
    """Made first if it is missing, then opened as what it is: a link that appears in between is refused too."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
    found = True
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        found = False
        os.close(paths.ensure_dir(root, name, 0o755, 0, 0))
    try:
        return paths.openat2(root, name, flags, resolve=paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS), found
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        reason = "must be mounted on ordinary directory in the image, not a link or a file"
        raise OSError(errno.ENOTDIR, reason, f"/{name}") from error


def open_file(root: int, path: str) -> int:
    """What is at `path` in the root as an O_PATH descriptor; an empty file is made if nothing is. A symlink that leads
    nowhere is followed inside the root: the file is made where it points to, with the directories above.

    Made with O_EXCL and O_NOFOLLOW in a directory held open: nothing outside can be created or emptied by a race
    (CVE-2024-45310).
    """
    try:
        return paths.open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    goal = paths.real_path(root, path)
    os.close(paths.ensure_dir(root, goal.rpartition("/")[0] or "/", 0o755, 0, 0))
    holder, name = paths.open_parent(root, goal, follow=True)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=holder))
    except FileExistsError:
        pass  # made by another container that shares the directory, just now
    finally:
        os.close(holder)
    return paths.open_in_root(root, path, os.O_PATH)


def is_procfs(fd: int) -> bool:
    """Whether a descriptor is the top of a procfs."""
    return procfs.magic(fd) == procfs.PROC_SUPER_MAGIC and os.fstat(fd).st_ino == _PROC_ROOT_INODE


def check(target: int, path: str, is_proc: bool) -> None:
    """Nothing but a procfs goes over /proc, and nothing inside it but what is known to be harmless (CVE-2019-16884).

    `path` is clean, `is_proc` says that the mount is the top of a procfs. The target decides, whatever way led there.
    """
    if procfs.magic(target) == procfs.PROC_SUPER_MAGIC:
        if path not in _OVER_PROC and not (is_proc and is_procfs(target)):
            raise OSError(errno.EPERM, "lies inside /proc, where nothing may be mounted", path)
    elif path == "/proc" and not is_proc:
        raise OSError(errno.EPERM, "only a procfs may be mounted there", path)
