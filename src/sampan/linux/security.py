"""Security modules: is there AppArmor or SELinux, which label does the next program get (apparmor(7), selinux(8))."""

from __future__ import annotations

import os

from sampan.linux import procfs

_SELINUX_MAGIC = 0xF97CFF8C


def apparmor_enabled() -> bool:
    """Whether the kernel runs AppArmor and its policy interface is mounted."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            said = file.read(1)
    except OSError:
        return False  # the module is not in this kernel, or there is no /sys to ask
    return said == b"Y" and os.path.isdir("/sys/kernel/security/apparmor")


def selinux_enabled() -> bool:
    """Whether a selinuxfs is mounted at /sys/fs/selinux."""
    try:
        fd = os.open("/sys/fs/selinux", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return procfs.magic(fd) == _SELINUX_MAGIC
    finally:
        os.close(fd)


def set_apparmor_on_exec(profile: str, proc: int) -> None:
    """The profile that the next execve(2) of this thread enters. `proc`: the root of a procfs. Raises OSError."""
    data = f"exec {profile}".encode()
    try:
        procfs.write_own(proc, "attr/apparmor/exec", data)
    except FileNotFoundError:  # before Linux 5.1, or AppArmor is not among several modules
        procfs.write_own(proc, "attr/exec", data)


def set_selinux_on_exec(label: str, proc: int) -> None:
    """The label that the next execve(2) of this thread gets, and that of keys it makes. Raises OSError."""
    procfs.write_own(proc, "attr/exec", label.encode())
    procfs.write_own(proc, "attr/keycreate", label.encode())
