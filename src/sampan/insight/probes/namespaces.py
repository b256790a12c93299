"""Which kinds of namespaces this kernel has and lets us make: namespaces(7)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable

from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import clone

GROUP = "Namespaces"
KINDS = {
    "mount": ("what is mounted where", MISSING, ""),
    "pid": ("process ids of its own", MISSING, ""),
    "network": ("devices, addresses, ports of its own", MISSING, ""),
    "ipc": ("System V IPC and message queues of its own", MISSING, ""),
    "uts": ("a host name of its own", MISSING, ""),
    "cgroup": ("its cgroup looks like the root", MISSING, ""),
    "user": ("user ids of its own: root inside is nobody outside", LIMITED, "--userns has no effect"),
    "time": ("boot and monotonic clocks of its own", LIMITED, "containers see the host's uptime"),
}
CONFIG = {
    "mount": "", "pid": "PID_NS", "network": "NET_NS", "ipc": "IPC_NS", "uts": "UTS_NS", "cgroup": "CGROUPS",
    "user": "USER_NS", "time": "TIME_NS",
}
NOBODY = 65534


def _made(kind: str) -> Callable[[], str]:
    flag, name = clone.NAMESPACES[kind]
    # unshare(2) of pid and time is for the children of the caller.
    link = f"/proc/self/ns/{name}_for_children" if kind in ("pid", "time") else f"/proc/self/ns/{name}"

    def action() -> str:
        if not os.path.exists(f"/proc/self/ns/{name}"):
            raise OSError(0, "the kernel does not have this kind")
        before = os.readlink(link)
        clone.unshare(flag)
        if kind in ("pid", "time"):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        if os.readlink(link) == before:
            raise OSError(0, "unshare succeeded but nothing changed")
        return ""

    return action


def _unprivileged() -> str:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    clone.unshare(clone.NEWUSER | clone.NEWNS | clone.NEWNET)
    return "an ordinary user can make them"


def examine() -> list[Finding]:
    """Each kind made in a child, and what rootless use needs."""
    findings = []
    for kind, (about, level, meaning) in KINDS.items():
        good, text = works(_made(kind))
        if good:
            findings.append(Finding(GROUP, kind, OK, about))
            continue
        option = f"a kernel with CONFIG_{CONFIG[kind]}" if CONFIG[kind] else "another kernel"
        remedy = _limit_remedy(kind) or f"run as root on {option}"
        findings.append(Finding(GROUP, kind, level, text, meaning or "containers cannot be isolated in this", remedy))
    return [*findings, _rootless(), *_mappers()]


def _limit_remedy(kind: str) -> str:
    """/proc/sys/user/max_*_namespaces of 0 forbids them; that is easily changed."""
    name = {"mount": "mnt", "network": "net"}.get(kind, kind)
    try:
        with open(f"/proc/sys/user/max_{name}_namespaces", encoding="ascii") as file:
            return f"sysctl user.max_{name}_namespaces=10000" if file.read().strip() == "0" else ""
    except FileNotFoundError:
        return ""


def _rootless() -> Finding:
    good, text = works(_unprivileged)
    if good:
        return Finding(GROUP, "unprivileged", OK, text)
    remedy = ""
    for path, wrong, setting in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
         "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ):
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                remedy = setting if file.read().strip() == wrong else remedy
    return Finding(GROUP, "unprivileged", LIMITED, text, "Sampan runs as root only", remedy)


def _mappers() -> list[Finding]:
    """newuidmap(1): how an ordinary user gets more than one id."""
    findings = []
    for name in ("newuidmap", "newgidmap"):
        path = shutil.which(name)
        if path is None:
            findings.append(Finding(GROUP, name, LIMITED, "not installed",
                                    "an ordinary user's container has one user only", "apt-get install uidmap"))
            continue
        status = os.stat(path)
        capable = bool(status.st_mode & (stat.S_ISUID | stat.S_ISGID)) or "security.capability" in os.listxattr(path)
        findings.append(
            Finding(GROUP, name, OK, path) if capable else
            Finding(GROUP, name, LIMITED, f"{path} has neither setuid nor a file capability",
                    "an ordinary user's container has one user only", f"chmod u+s {path}")
        )
    return findings
