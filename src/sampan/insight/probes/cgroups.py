"""Which controllers limit and count here, and whether we may make groups: cgroups(7)."""

from __future__ import annotations

import os

from sampan.errors import SampanError
from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.probe import works
from sampan.linux import cgroup, clone
from sampan.linux.cgroup import device_program, features

GROUP = "Control groups"
MODES = {
    "v2": "v2, one hierarchy for all",
    "v1": "v1, a hierarchy for each controller",
    "hybrid": "hybrid, v1 controllers and a v2 hierarchy beside them",
}
# Controller → (v2's name for it, what it is for, level without it).
CONTROLLERS = {
    "cpu": ("cpu", "--cpus and --cpu-shares", MISSING),
    "cpuset": ("cpuset", "--cpuset-cpus and --cpuset-mems", LIMITED),
    "memory": ("memory", "--memory", MISSING),
    "pids": ("pids", "--pids-limit", MISSING),
    "blkio": ("io", "--device-read-bps, --blkio-weight and the I/O column of stats", LIMITED),
    "hugetlb": ("hugetlb", "limits for huge pages", LIMITED),
}
MOUNT = "mount -t cgroup -o {0} {0} /sys/fs/cgroup/{0} (or boot without cgroup_disable={0})"


def examine() -> list[Finding]:
    """Mode, controllers, what they can do, and a group made and removed for a try."""
    try:
        host = cgroup.detect()
    except SampanError as error:
        return [Finding(GROUP, "mounted", MISSING, str(error), "nothing can be limited or counted",
                        "mount -t cgroup2 none /sys/fs/cgroup")]
    found = features.read(host)
    where = ", ".join([*([f"v2 on {host.v2}"] if host.v2 else []), *([f"{len(host.v1)} on v1"] if host.v1 else [])])
    findings = [Finding(GROUP, "mode", OK, f"{MODES[host.mode]} ({where})")]
    findings += [_controller(host, found, name) for name in CONTROLLERS]
    findings += [_swap(host, found), _devices(host), _freezer(host), _own_group(host)]
    return [*findings, *_weights(found), _pressure()]


def _controller(host: cgroup.Host, found: features.Features, name: str) -> Finding:
    unified, purpose, level = CONTROLLERS[name]
    if name in host.v1:
        return Finding(GROUP, name, OK, host.v1[name])
    if unified in host.v2_controllers:
        return Finding(GROUP, name, OK, f"{unified} on v2")
    if name in found.disabled:
        enable = " and with cgroup_enable=memory" if name == "memory" else ""
        return Finding(GROUP, name, level, "switched off on the kernel command line", f"no {purpose}",
                       f"boot without cgroup_disable={name}{enable}")
    remedy = MOUNT.format(name) if host.mode != "v2" else f"echo +{unified} > {host.v2}/cgroup.subtree_control"
    return Finding(GROUP, name, level, "not mounted" if host.v1 else "not available", f"no {purpose}", remedy)


def _swap(host: cgroup.Host, found: features.Features) -> Finding:
    if not found.memory_limit:
        return Finding(GROUP, "swap", LIMITED, "needs the memory controller", "--memory-swap has no effect")
    if found.swap_limit:
        return Finding(GROUP, "swap", OK, "counted and limited")
    return Finding(
        GROUP, "swap", LIMITED, "swap is not counted for groups",
        "--memory-swap has no effect: a container at its memory limit may go on in swap",
        "add swapaccount=1 to the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub) and boot",
    )


def _devices(host: cgroup.Host) -> Finding:
    if "devices" in host.v1:
        return Finding(GROUP, "devices", OK, host.v1["devices"])
    if host.mode != "v2":
        return Finding(GROUP, "devices", MISSING, "not mounted", "containers could open any device",
                       MOUNT.format("devices"))
    good, text = works(_load_device_program)
    if good:
        return Finding(GROUP, "devices", OK, text)
    return Finding(GROUP, "devices", MISSING, text, "containers could open any device",
                   "a kernel with CONFIG_CGROUP_BPF, and CAP_BPF or CAP_SYS_ADMIN")


def _load_device_program() -> str:
    os.close(device_program.load(device_program.program(device_program.policy([]))))
    return "by an eBPF program on each group"


def _freezer(host: cgroup.Host) -> Finding:
    if host.v2_freezer or "freezer" in host.v1:
        return Finding(GROUP, "freezer", OK, "v2" if host.v2_freezer else host.v1["freezer"])
    return Finding(GROUP, "freezer", LIMITED, "none", "sampan pause does not work", MOUNT.format("freezer"))


def _own_group(host: cgroup.Host) -> Finding:
    path = f"sampan-doctor-{os.getpid()}"
    try:
        group = cgroup.Group.create(host, path)
    except (SampanError, OSError) as error:
        return Finding(GROUP, "new groups", MISSING, str(error), "containers cannot be limited",
                       "run as root, where /sys/fs/cgroup is mounted writable")
    try:
        fd = group.open_v2_fd()
        if fd is None:
            return Finding(GROUP, "new groups", LIMITED, "made; no v2 hierarchy beside them",
                           "processes are moved into their group after the fork: slower", "mount a cgroup2 hierarchy")
        good, text = works(lambda: _born_in(fd))
        kill = os.path.exists(f"{group.paths()['unified']}/cgroup.kill")
        os.close(fd)
        extra = ", killed in one step" if kill else ""
        return Finding(GROUP, "new groups", OK, "processes are born in their group" + extra) if good else Finding(
            GROUP, "new groups", LIMITED, f"made; CLONE_INTO_CGROUP: {text}", "starts are slower", "Linux 5.7 or newer")
    finally:
        group.remove()


def _born_in(fd: int) -> str:
    pid, _ = clone.clone3(0, cgroup_fd=fd)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return ""


def _weights(found: features.Features) -> list[Finding]:
    if found.blkio_weight:
        return [Finding(GROUP, "I/O weight", OK, "can be set")]
    return [Finding(GROUP, "I/O weight", LIMITED, "no scheduler that knows weights", "--blkio-weight has no effect",
                    "modprobe bfq; echo bfq > /sys/block/DISK/queue/scheduler")]


def _pressure() -> Finding:
    try:
        with open("/proc/pressure/memory", encoding="ascii") as file:
            file.readline()
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        return Finding(GROUP, "pressure", LIMITED, "/proc/pressure is not there" if absent else "switched off",
                       "explain cannot say who waits for memory, I/O or CPU",
                       "a kernel with CONFIG_PSI" if absent else "add psi=1 to the kernel command line and boot")
    return Finding(GROUP, "pressure", OK, "waiting for memory, I/O and CPU is measured")
