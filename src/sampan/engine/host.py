"""Facts about this host that users are told: architecture, operating system, memory, file systems."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_GOARCH = {
    "x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i386": "386", "armv7l": "arm", "armv6l": "arm",
    "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "loongarch64": "loong64",
}
_MAX_FILE = 64 << 10


def architecture() -> str:
    """The machine as images name it: amd64, arm64."""
    machine = os.uname().machine
    return _GOARCH.get(machine, machine)


def operating_system() -> tuple[str, str]:
    """(pretty name, version) of os-release(5): ("Debian GNU/Linux 12 (bookworm)", "12")."""
    fields = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            lines = Path(path).read_bytes()[:_MAX_FILE].decode(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            fields[name.strip()] = value.strip().strip("\"'")
        break
    return fields.get("PRETTY_NAME") or fields.get("NAME") or "Linux", fields.get("VERSION_ID", "")


def python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def memory_total() -> int:
    """Bytes of RAM."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def file_system(path: str | os.PathLike[str]) -> str:
    """The kernel's name of the file system that `path` is on ("ext4"); "unknown" if its mount is not visible here."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == number:
            return after.split(" ")[0]
    return "unknown"


def forwards_ipv4() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
