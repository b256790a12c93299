"""overlayfs, tried where it will be used: Linux Documentation/filesystems/overlayfs.rst."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import clone, mount

GROUP = "Storage"
LOW_SPACE = 2 << 30


def _existing(path: Path) -> Path:
    """The directory itself, or the nearest one above it that exists."""
    while not path.is_dir():
        path = path.parent
    return path


def _overlay(base: str) -> str:
    clone.unshare(clone.NEWNS)
    mount.set_propagation("/", mount.MS_REC | mount.MS_PRIVATE)
    directory = f"{base}/.sampan-doctor-{os.getpid()}"
    os.mkdir(directory, 0o700)
    try:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{directory}/{name}")
        with open(f"{directory}/lower/file", "w", encoding="ascii") as file:
            file.write("below")
        fd = mount.overlay([f"{directory}/lower"], f"{directory}/upper", f"{directory}/work")
        os.unlink("file", dir_fd=fd)
        os.close(fd)
        if not os.path.exists(f"{directory}/upper/file"):
            raise OSError(0, "a deleted file left no whiteout")
    finally:
        shutil.rmtree(directory)
    return "mounted, written, deleted in"


def _trusted_attributes(base: str) -> str:
    path = f"{base}/.sampan-doctor-{os.getpid()}"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.setxattr(path, "trusted.overlay.sampan", b"1")
    finally:
        os.unlink(path)
    return "kept"


def examine(data_root: Path = Path("/var/lib/sampan")) -> list[Finding]:
    """Overlay on the data root's own file system, its free space, extended attributes."""
    base = str(_existing(data_root))
    findings = []
    good, text = works(lambda: _overlay(base))
    if good:
        findings.append(Finding(GROUP, "overlay", OK, f"{text} {base}"))
    else:
        findings.append(Finding(GROUP, "overlay", MISSING, text, f"containers cannot get a root file system on {base}",
                                "modprobe overlay; or --data-root on ext4, xfs (with ftype=1) or btrfs"))
    good, text = works(lambda: _trusted_attributes(base))
    findings.append(
        Finding(GROUP, "attributes", OK, f"trusted.* attributes are kept on {base}") if good else
        Finding(GROUP, "attributes", MISSING, text, "directories replaced by a layer cannot be told from merged ones",
                "--data-root on a file system with trusted extended attributes, as root")
    )
    status = os.statvfs(base)
    free = status.f_bavail * status.f_frsize
    findings.append(
        Finding(GROUP, "space", OK, f"{free / 1e9:.1f} GB free on {base}") if free >= LOW_SPACE else
        Finding(GROUP, "space", LIMITED, f"{free / 1e9:.1f} GB free on {base}", "builds and images may run out of room",
                "sampan system prune, or --data-root on a larger file system")
    )
    return findings
