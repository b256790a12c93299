"""What a container's configuration promises: Docker's HostConfig and Config read as claims about the kernel's state.

Written apart from the code that makes containers, on purpose: a checker that shares its tables would share its errors.
"""

from __future__ import annotations

from typing import Any

DEFAULT_CAPABILITIES = frozenset((
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
))
MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
USUAL_DEVICES = frozenset(("full", "fuse", "null", "ptmx", "random", "tty", "urandom", "zero", "console"))
MODES = {
    "pid": "PidMode", "net": "NetworkMode", "uts": "UTSMode", "ipc": "IpcMode", "cgroup": "CgroupnsMode",
    "user": "UsernsMode", "time": "", "mnt": "",
}
OWN, HOST, OTHER = "own", "host", "other"


def namespace(kind: str, host: dict[str, Any]) -> str:
    """OWN, HOST, OTHER (another container's), or "" when nothing is promised."""
    mode = str(host.get(MODES[kind]) or "") if MODES[kind] else ""
    if mode.startswith("container:"):
        return OTHER
    if mode == "host":
        return HOST
    if kind in ("user", "time"):
        return OWN if mode == "private" else ""
    if kind == "cgroup" and not mode:
        return ""
    return OWN


def capabilities(host: dict[str, Any], every: frozenset[str]) -> frozenset[str]:
    """The capabilities it may have at most. `every`: all that this kernel knows."""
    if host.get("Privileged"):
        return every

    def names(key: str) -> set[str]:
        upper = {str(name).upper() for name in host.get(key) or ()}
        return {name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper}

    add, drop = names("CapAdd"), names("CapDrop")
    base: frozenset[str] = frozenset() if "ALL" in drop else DEFAULT_CAPABILITIES - drop
    return (every - drop if "ALL" in add else base | (add & every)) - (drop - {"ALL"} - add)


def seccomp(host: dict[str, Any]) -> bool:
    """Whether a filter is promised."""
    options = [str(option) for option in host.get("SecurityOpt") or ()]
    given = [option for option in options if option.startswith(("seccomp=", "seccomp:"))]
    return not given[-1].endswith("unconfined") if given else not host.get("Privileged")


def no_new_privileges(host: dict[str, Any]) -> bool:
    """Whether set-uid programs must have no effect."""
    options = [str(option) for option in host.get("SecurityOpt") or ()]
    return bool({"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}.intersection(options))


def masked(host: dict[str, Any]) -> list[str]:
    """Paths that must be hidden."""
    said = host.get("MaskedPaths")
    return list(said) if said is not None else [] if host.get("Privileged") else list(MASKED_PATHS)


def read_only(host: dict[str, Any]) -> list[str]:
    """Paths that must not be writable."""
    said = host.get("ReadonlyPaths")
    return list(said) if said is not None else [] if host.get("Privileged") else list(READONLY_PATHS)


def devices(host: dict[str, Any]) -> frozenset[str] | None:
    """Names in /dev that may be device nodes; None: any."""
    if host.get("Privileged"):
        return None
    given = {str(device["PathInContainer"]).removeprefix("/dev/") for device in host.get("Devices") or ()}
    return USUAL_DEVICES | given


def cpu_quota(host: dict[str, Any]) -> float | None:
    """CPUs it may use; None: all."""
    if host.get("NanoCpus"):
        return int(host["NanoCpus"]) / 1e9
    if int(host.get("CpuQuota") or 0) > 0:
        return int(host["CpuQuota"]) / int(host.get("CpuPeriod") or 100_000)
    return None
