"""seccomp, capabilities, security modules: what confines a container besides its namespaces."""

from __future__ import annotations

import os
import struct

from sampan.errors import SampanError
from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import capability, process, seccomp

GROUP = "Security"
# Capability → what does not work without it.
NEEDED = {
    "CAP_SYS_ADMIN": "namespaces and mounts", "CAP_NET_ADMIN": "networks", "CAP_SETUID": "containers' users",
    "CAP_SETGID": "containers' groups", "CAP_SETPCAP": "dropping capabilities", "CAP_CHOWN": "unpacking images",
    "CAP_DAC_OVERRIDE": "reading containers' files", "CAP_FOWNER": "unpacking images", "CAP_FSETID": "unpacking images",
    "CAP_MKNOD": "device nodes and whiteouts", "CAP_SYS_CHROOT": "changing the root", "CAP_KILL": "stopping containers",
}
HELPFUL = {
    "CAP_SYS_RESOURCE": "ulimits cannot be raised above the engine's own, nor oom_score_adj lowered",
    "CAP_SYS_PTRACE": "explain and verify cannot look into containers of other users",
    "CAP_NET_RAW": "it cannot be given to containers: ping in them may fail",
    "CAP_NET_BIND_SERVICE": "it cannot be given to containers: ports below 1024 fail for their users",
    "CAP_AUDIT_WRITE": "it cannot be given to containers",
    "CAP_SETFCAP": "it cannot be given to containers, nor file capabilities unpacked",
}
# One BPF instruction: return SECCOMP_RET_ALLOW.
ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
DEBIAN_SECCOMP = "apt-get install libseccomp2"


def _filter() -> str:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.load(ALLOW_ALL)
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        mode = next(line.split()[1] for line in file if line.startswith("Seccomp:"))
    if mode != "2":
        raise OSError(0, f"a filter was loaded but the mode is {mode}")
    return "system call filters"


def examine() -> list[Finding]:
    """Filters tried in a child; our own capabilities; which security module is active."""
    findings = []
    good, text = works(_filter)
    findings.append(
        Finding(GROUP, "seccomp", OK, text) if good else
        Finding(GROUP, "seccomp", MISSING, text, "containers can use every system call",
                "a kernel with CONFIG_SECCOMP_FILTER")
    )
    try:
        findings.append(Finding(GROUP, "libseccomp", OK, seccomp.open_library()[1]))
    except SampanError as error:
        findings.append(Finding(GROUP, "libseccomp", MISSING, str(error), "the default policy cannot be compiled",
                                DEBIAN_SECCOMP))
    return [*findings, *_capabilities(), _module()]


def _capabilities() -> list[Finding]:
    """Bounding: nothing outside it can ever be given to a container."""
    sets = capability.read()
    have = set(capability.to_names(sets.effective))
    findings = []
    absent = [name for name in NEEDED if name not in have]
    if absent:
        what = "; ".join(f"{name.removeprefix('CAP_')}: {NEEDED[name]}" for name in absent[:4])
        findings.append(Finding(GROUP, "capabilities", MISSING, f"{len(absent)} needed ones are missing",
                                f"does not work without {what}", "run as root"))
    else:
        findings.append(Finding(GROUP, "capabilities", OK, f"{len(have)} of {capability.last_cap() + 1}"))
    for name, meaning in HELPFUL.items():
        if name not in have and not absent:
            findings.append(Finding(GROUP, name, LIMITED, "missing", meaning,
                                    "whoever started this shell took it away: start the engine from the host's init"))
    return findings


def _module() -> Finding:
    try:
        with open("/sys/kernel/security/lsm", encoding="ascii") as file:
            modules = file.read().strip().split(",")
    except OSError:
        modules = []
    active = [name for name in ("apparmor", "selinux", "landlock", "smack") if name in modules]
    if "apparmor" in active and not os.path.isdir("/sys/kernel/security/apparmor"):
        active.remove("apparmor")
    if active:
        return Finding(GROUP, "modules", OK, ", ".join(active))
    return Finding(GROUP, "modules", LIMITED, "neither AppArmor nor SELinux is active",
                   "one layer less: capabilities, seccomp and masked paths still confine containers",
                   "boot with lsm=…,apparmor on a kernel that has it")
