"""A config.json to begin with: a shell on a terminal, in namespaces of its own, with few rights."""

from __future__ import annotations

import os

from sampan.errors import Conflict
from sampan.oci.runtime import VERSION

NAME = "config.json"
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default() -> dict[str, object]:
    """The document for root."""
    return _document(
        _mounts(["mode=0620", "gid=5"], _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")),
        {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in _namespaces()],
        },
    )


def rootless() -> dict[str, object]:
    """The document for an ordinary user: who calls is root inside. The network is the host's, hence /sys is, too
    (sysfs belongs to the network namespace's owner), and there is no group 5 to give terminals to.
    """
    return _document(
        _mounts(["mode=0620"], _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")),
        {
            "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
            "namespaces": [{"type": kind} for kind in (*_namespaces(), "user") if kind != "network"],
        },
    )


def write(directory: str, text: str) -> None:
    """Write config.json into a directory. Raises Conflict when there is one: it may be somebody's work."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except FileExistsError:
        raise Conflict(f"File {NAME} exists. Remove it first") from None
    finally:
        os.close(folder)
    try:
        view = memoryview(f"{text}\n".encode())
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _namespaces() -> tuple[str, ...]:
    """As runc has them: one for cgroups on v2 alone. Programs write config.json on from what `spec` gives them."""
    return (*_NAMESPACES, "cgroup") if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else _NAMESPACES


def _document(mounts: list[dict[str, object]], linux: dict[str, object]) -> dict[str, object]:
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "sampan",
        "mounts": mounts,
        "linux": {**linux, "maskedPaths": list(_MASKED), "readonlyPaths": list(_READONLY)},
    }


def _mounts(terminals: list[str], sys: dict[str, object]) -> list[dict[str, object]]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", *terminals),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        sys,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
