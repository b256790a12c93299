"""System calls that a start uses: tried, not guessed from the version."""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Callable

from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import clone, mount, paths, process

GROUP = "Kernel"
UPGRADE = "boot a newer kernel (Debian 12's 6.1 has it)"


def _clone3() -> str:
    pid, pidfd = clone.clone3(0)
    if pid == 0:
        os._exit(7)
    select.select([pidfd], [], [], 3)
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if result is None or result.si_status != 7:
        raise OSError(0, "the child's exit status did not arrive")
    return "with a pidfd for the child"


def _pidfd() -> str:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    if not select.select([fd], [], [], 3)[0]:
        raise OSError(0, "the end of the process was not announced")
    os.waitpid(pid, 0)
    return "open, signal, wait"


def _mount_api() -> str:
    clone.unshare(clone.NEWNS)
    mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
    fd = mount.new("tmpfs", {"size": "65536"}, mount.ATTR_NOSUID)
    mount.set_attributes(fd, mount.ATTR_NODEV)
    with tempfile.TemporaryDirectory() as directory:
        target = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        mount.attach(fd, target)
        copy = mount.clone_tree(directory)
        os.close(copy)
        mount.detach(directory)
    return "fsopen, fsmount, move_mount, open_tree, mount_setattr"


def _openat2() -> str:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.close(paths.openat2(root, "proc", os.O_PATH))
    return "paths resolved inside a root by the kernel"


def _close_range() -> str:
    fd = os.open("/dev/null", os.O_RDONLY)
    process.close_from(fd, fd)
    try:
        os.fstat(fd)
    except OSError:
        return "descriptors closed in one call"
    raise OSError(0, "the descriptor stayed open")


def _idmap() -> str:
    """A user namespace that maps 0 to 100000, and a tmpfs shown through it."""
    pid = os.fork()
    if pid == 0:
        clone.unshare(clone.NEWUSER)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write("0 100000 65536\n")
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        fd = mount.new("tmpfs")
        mount.set_attributes(fd, mount.ATTR_IDMAP, userns_fd=user)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return "a layer can be shown with other owners"


CHECKS: tuple[tuple[str, Callable[[], str], str, str], ...] = (
    ("clone3", _clone3, MISSING, "containers cannot be started"),
    ("pidfd", _pidfd, MISSING, "processes cannot be watched and signalled without races"),
    ("mount API", _mount_api, MISSING, "a container's file system cannot be put together"),
    ("openat2", _openat2, MISSING, "paths inside a container cannot be resolved safely"),
    ("close_range", _close_range, MISSING, "descriptors of the host could stay open in a container"),
    ("idmapped mounts", _idmap, LIMITED, "containers with a user namespace of their own need a copy of their layers"),
)


def examine() -> list[Finding]:
    """The kernel's release, and each call tried in a child."""
    host = os.uname()
    findings = [Finding(GROUP, "release", OK, f"Linux {host.release} on {host.machine}")]
    for name, action, level, meaning in CHECKS:
        good, text = works(action)
        findings.append(
            Finding(GROUP, name, OK, text) if good else Finding(GROUP, name, level, text, meaning, UPGRADE)
        )
    return findings
