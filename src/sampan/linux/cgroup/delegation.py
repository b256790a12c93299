"""Groups of those who are not the host's root: what was delegated to them, and what they hand on to a container's root.

cgroups(7), "Cgroups delegation": who may write a directory and its cgroup.procs may make groups below it, and move
processes between them; the limits of the directory itself stay another's. systemd delegates v2 only.
"""

from __future__ import annotations

import errno
import os

from sampan.linux import userns
from sampan.linux.cgroup import cgroupfs, controlfile
from sampan.linux.cgroup.cgroupfs import UNIFIED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroup.group import Group
    from sampan.linux.cgroup.host import Host

_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_rootless() -> bool:
    """Whether the caller is not the host's root: an ordinary user, or root of a user namespace."""
    return os.geteuid() != 0 or not userns.is_initial()


def own_path(host: Host) -> str:
    """This process's v2 group, from the root of the hierarchy ("/" for that), or "/" without v2."""
    if host.v2:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.startswith("0::"):
                    path = line[3:].rstrip("\n")
                    return "/" if ".." in path.split("/") else path
    return "/"


def resolve(host: Host, cgroups_path: str, name: str) -> str:
    """The group's path for the spec's `cgroupsPath`, with the cgroupfs driver; `name` (the container's id) is for "".

    An absolute one is from the root of each hierarchy. A relative one is beside this process's own v2 group, as runc
    has it: inside, the kernel would not allow controllers, because of this very process. v1's are from the root.
    """
    while "//" in cgroups_path:  # of a parent given with a slash at its end
        cgroups_path = cgroups_path.replace("//", "/")
    if cgroups_path.startswith("/"):
        return cgroupfs.check_path(cgroups_path)
    above = os.path.dirname(own_path(host)) if host.mode == "v2" else "/"
    return cgroupfs.check_path(f"{above}/{cgroups_path or name}")


def may_create(host: Host, path: str) -> bool:
    """Whether this process may make the group and move its children in. Changes nothing. Raises InvalidArgument."""
    for controller, directory in cgroupfs.directories(host, path).items():
        above = os.path.dirname(directory)
        while not os.path.isdir(above):
            above = os.path.dirname(above)
        if not _allowed(above, os.W_OK | os.X_OK):
            return False
        if controller == UNIFIED:  # to move a process one must be able to write where the ways part
            mine = f"{host.v2}{own_path(host)}".rstrip("/")
            shared = os.path.commonpath([mine, directory])
            if not _allowed(f"{shared}/cgroup.procs", os.W_OK):
                return False
    return True


def _allowed(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def hand_over(group: Group, uid: int, gid: int = -1) -> None:
    """Give the v2 group to a user, a container's root as the host numbers it: the directory and the files with which it
    makes and fills groups of its own, not the limits. For containers with a user and a cgroup namespace of their own.

    Which files those are, the kernel says in /sys/kernel/cgroup/delegate (Linux 4.15). Nothing to do without v2.
    Raises OSError with the path.
    """
    directory = group.paths().get(UNIFIED)
    if directory is None:
        return
    os.chown(directory, uid, gid)
    for name in delegated_files():
        try:
            os.chown(f"{directory}/{name}", uid, gid, follow_symlinks=False)
        except FileNotFoundError:
            continue  # a controller that is not enabled here


def delegated_files() -> tuple[str, ...]:
    try:
        names = controlfile.read("/sys/kernel/cgroup", "delegate").split()
    except FileNotFoundError:
        return _DELEGATED
    return tuple(name for name in names if "/" not in name)
