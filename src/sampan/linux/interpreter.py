"""The interpreter that runs us, out of reach of whoever gets hold of it (CVE-2019-5736).

A program in a container that finds a forked process's /proc/PID/exe could write to the host's interpreter as soon as
nobody executes it. Through a read-only mount of our own the kernel answers EROFS, and no container can remount it: the
mount is in nobody's namespace once its descriptor is closed, and the file is not the mount's root.
"""

from __future__ import annotations

import os
import sys

from sampan.linux import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn


def readonly() -> int:
    """The interpreter's file through a detached read-only mount; -1 where we may not mount. The caller closes it."""
    directory, name = os.path.split(os.path.realpath(sys.executable))  # allowed: our own program
    try:
        tree = mount.clone_tree(directory)
    except PermissionError:
        return -1
    try:
        mount.set_attributes(tree, mount.ATTR_RDONLY)
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=tree)
    finally:
        os.close(tree)


def is_readonly() -> bool:
    """Whether what runs us lies on a read-only mount: nobody who reaches it through us can write to it."""
    fd = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
    finally:
        os.close(fd)


def restart(arguments: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become `python arguments…` through `readonly`. About 10 ms: an interpreter starts anew.

    For callers that are not `is_readonly` yet. The interpreter's path stays argv[0], by which Python finds its
    libraries. Raises PermissionError where we may not mount.
    """
    fd = readonly()
    if fd < 0:
        raise PermissionError(1, "cannot mount the interpreter read-only", sys.executable)
    try:
        os.execve(fd, [sys.executable, *arguments], env)
    finally:
        os.close(fd)
