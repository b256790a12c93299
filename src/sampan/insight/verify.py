"""`sampan verify`: does the isolation of a running container hold as its configuration says?

Looked at from outside, in /proc and in cgroupfs; nothing of the container is run and no path of it is resolved other
than inside its own root.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from sampan.errors import NotFound, SampanError
from sampan.insight import limits, promise
from sampan.insight.finding import LIMITED, MISSING, OK, Finding
from sampan.insight.groups import directories
from sampan.insight.proc import NAMESPACES, Process, family
from sampan.linux import capability, paths
from sampan.linux.mountinfo import Mount

SENSITIVE = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sys", "/usr", "/var", "/var/run")
SOCKETS = ("docker.sock", "sampan.sock", "containerd.sock", "podman.sock")
LIMIT_ROUNDING = 0.02


def verify(details: dict[str, Any]) -> list[Finding]:
    """`details` is the API's inspect of a running container. Raises NotFound when it has ended meanwhile, OSError."""
    init = Process(int(details["State"]["Pid"]))
    host, config = details["HostConfig"], details["Config"]
    members = family(init.pid) if promise.namespace("pid", host) == promise.OWN else [init]
    mounts = init.mounts()
    return [
        *_namespaces(init, host), *_rights(init, members, host, config), *_files(init, host, mounts),
        *_descriptors(init, mounts), *_devices(init, host), *_groups(init, members, details),
    ]


def _check(group: str, name: str, good: bool, found: str, expected: str = "", remedy: str = "") -> Finding:
    return Finding(group, name, OK if good else MISSING, found, "" if good else expected, "" if good else remedy)


def _namespaces(init: Process, host: dict[str, Any]) -> list[Finding]:
    ours, findings = Process(os.getpid()), []
    for kind in NAMESPACES:
        inode, expected = init.namespace(kind), promise.namespace(kind, host)
        if not inode:
            continue
        shared = inode == ours.namespace(kind)
        found = f"the host's ({inode})" if shared else f"not the host's ({inode})"
        good = not expected or shared == (expected == promise.HOST)
        said = "promised to be its own" if expected != promise.HOST else "promised to be the host's"
        if expected == promise.HOST and good:
            findings.append(Finding("Namespaces", kind, OK, f"{found}, as asked for"))
        else:
            findings.append(_check("Namespaces", kind, good, found, said))
    return findings


def _rights(
    init: Process, members: list[Process], host: dict[str, Any], config: dict[str, Any]
) -> list[Finding]:
    every = frozenset(capability.to_names((1 << (capability.last_cap() + 1)) - 1))
    allowed = capability.to_mask(promise.capabilities(host, every))
    findings = []
    for which, name in (("CapBnd", "bounding"), ("CapPrm", "permitted"), ("CapEff", "effective")):
        beyond = [
            f"{process.inner_pid}: {', '.join(capability.to_names(process.mask(which) & ~allowed))}"
            for process in members if process.mask(which) & ~allowed
        ]
        held = bin(init.mask(which)).count("1")
        findings.append(_check("Rights", name, not beyond, f"{held} capabilities" if not beyond else "; ".join(beyond),
                               "more than its configuration allows"))
    for which, name in (("CapInh", "inheritable"), ("CapAmb", "ambient")):
        findings.append(_check("Rights", name, init.mask(which) == 0,
                               f"{bin(init.mask(which)).count('1')} capabilities", "must be empty (CVE-2022-24769)"))
    user = str(config.get("User") or "0").partition(":")[0]
    if user.isdigit():
        findings.append(_check("Rights", "user", init.uid == int(user), f"uid {init.uid}", f"promised to be {user}"))
    if promise.seccomp(host):
        free = [str(process.inner_pid) for process in members if process.status.get("Seccomp") != "2"]
        findings.append(_check("Rights", "seccomp", not free, "filtered" if not free else
                               f"no filter: {', '.join(free)}", "a filter was promised for every process"))
    else:
        findings.append(Finding("Rights", "seccomp", LIMITED, "switched off by its configuration",
                                "every system call of the kernel can be used", "leave out seccomp=unconfined"))
    if promise.no_new_privileges(host):
        said = init.status.get("NoNewPrivs")
        findings.append(_check("Rights", "no_new_privs", said == "1", f"NoNewPrivs {said}",
                               "set-uid programs were to have no effect"))
    if host.get("Privileged"):
        findings.append(Finding("Rights", "privileged", LIMITED, "all capabilities and devices, by its configuration",
                                "whoever is root in it is root on the host",
                                "--cap-add and --device for what it needs"))
    return findings


def _files(init: Process, host: dict[str, Any], mounts: list[Mount]) -> list[Finding]:
    here, there = os.stat("/"), os.stat(f"/proc/{init.pid}/root/.")
    findings = [_check("File system", "root", (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino),
                       "not the host's", "it is the host's own root")]
    targets = {mount.target: mount for mount in mounts}
    exposed = [path for path in promise.masked(host) if _exists(init, path) and path not in targets]
    writable = [
        path for path in promise.read_only(host)
        if _exists(init, path) and not (path in targets and targets[path].read_only)
    ]
    findings.append(_check("File system", "masked paths", not exposed, f"{len(promise.masked(host))} hidden or absent"
                           if not exposed else ", ".join(exposed), "visible, but promised to be hidden"))
    findings.append(_check("File system", "read-only paths", not writable, f"{len(promise.read_only(host))} protected"
                           if not writable else ", ".join(writable), "writable, but promised not to be"))
    shared = [mount.target for mount in mounts if any(word.startswith("shared:") for word in mount.propagation)]
    asked = {str(mount.get("Target")) for mount in host.get("Mounts") or ()}
    asked |= {bind.split(":")[1] for bind in host.get("Binds") or () if bind.count(":") and "shared" in bind}
    leaking = [target for target in shared if target not in asked]
    findings.append(_check("File system", "propagation", not leaking, "mounts stay inside" if not leaking else
                           ", ".join(leaking), "mounts made in it would appear on the host"))
    if host.get("ReadonlyRootfs"):
        findings.append(_check("File system", "read-only root", targets["/"].read_only, ",".join(targets["/"].options),
                               "its root is writable"))
    nodes = [mount.target for mount in mounts if mount.kind == "devtmpfs" and not mount.read_only]
    given = {str(path) for bind in host.get("Binds") or () for path in bind.split(":")[1:2]} | asked
    open_nodes = [] if host.get("Privileged") else [target for target in nodes if target not in given]
    findings.append(_check("File system", "host devices", not open_nodes, "none can be changed" if not open_nodes else
                           ", ".join(open_nodes),
                           "the host's own device node, writable: chmod in the container changes it on the host"))
    return [*findings, *_binds(host)]


def _exists(init: Process, path: str) -> bool:
    root = os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return paths.exists(root, path)
    except SampanError:
        return False
    finally:
        os.close(root)


def _binds(host: dict[str, Any]) -> list[Finding]:
    """What it was given of the host, where that is a great deal."""
    sources = [bind.split(":")[0] for bind in host.get("Binds") or ()]
    sources += [str(mount.get("Source")) for mount in host.get("Mounts") or () if mount.get("Type") == "bind"]
    findings = []
    for source in sources:
        if source.endswith(SOCKETS):
            findings.append(Finding("File system", "socket", LIMITED, f"{source} is mounted in it",
                                    "whoever can talk to an engine is root on the host"))
        elif source in SENSITIVE:
            findings.append(Finding("File system", "host files", LIMITED, f"{source} of the host is mounted in it",
                                    "it sees, and if writable changes, the host's own files"))
    return findings


def _descriptors(init: Process, mounts: list[Mount]) -> list[Finding]:
    """Every open file must be on a mount that is in the container's own mount namespace (CVE-2024-21626)."""
    own = {mount.id for mount in mounts}
    foreign = []
    for fd, target in init.descriptors().items():
        if not target.startswith("/") or target.startswith("/memfd:"):
            continue
        try:
            info = init.read(f"fdinfo/{fd}")
        except NotFound:
            continue
        mount_id = next((int(line.split()[1]) for line in info.splitlines() if line.startswith("mnt_id:")), -1)
        if mount_id not in own:
            foreign.append(f"{fd} → {target}")
    return [_check("Descriptors", "open files", not foreign, "all inside its own mounts" if not foreign else
                   "; ".join(foreign), "a file of the host is open in it: it may lead out")]


def _devices(init: Process, host: dict[str, Any]) -> list[Finding]:
    allowed = promise.devices(host)
    if allowed is None:
        return []
    root = os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = paths.open_in_root(root, "dev", os.O_RDONLY | os.O_DIRECTORY)
    except (SampanError, OSError):
        return []
    finally:
        os.close(root)
    try:
        names = os.listdir(directory)
        nodes = [name for name in names if _is_device(directory, name)]
    finally:
        os.close(directory)
    extra = sorted(set(nodes) - allowed)
    return [_check("Devices", "/dev", not extra, f"{len(nodes)} usual nodes" if not extra else ", ".join(extra),
                   "device nodes that it was not given")]


def _is_device(directory: int, name: str) -> bool:
    mode = os.lstat(name, dir_fd=directory).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _groups(init: Process, members: list[Process], details: dict[str, Any]) -> list[Finding]:
    host = details["HostConfig"]
    found = directories(init, details)
    if not found:
        return [Finding("Control groups", "membership", MISSING, "it is in no group of its own", "nothing limits it")]
    home = init.cgroups()
    strays = [str(process.pid) for process in members if _strays(process, home)]
    findings = [_check("Control groups", "membership", not strays, f"{len(members)} processes, all inside"
                       if not strays else f"outside: {', '.join(strays)}", "not limited with the others")]
    now = limits.read(found)
    quota = promise.cpu_quota(host)
    for name, promised, actual in (
        ("memory", int(host.get("Memory") or 0) or None, now.memory),
        ("memory + swap", int(host.get("MemorySwap") or 0) or None, now.memory_swap),
        ("processes", int(host.get("PidsLimit") or 0) or None, now.pids),
        ("CPUs", quota, now.cpus),
        ("CPU shares", int(host.get("CpuShares") or 0) or None, now.shares),
    ):
        findings += _limit(name, promised, actual)
    if host.get("CpusetCpus"):
        good = _cpu_list(str(host["CpusetCpus"])) == _cpu_list(now.cpuset)
        findings.append(_check("Control groups", "CPU set", good, now.cpuset, f"promised to be {host['CpusetCpus']}"))
    return findings


def _strays(process: Process, home: dict[str, str]) -> bool:
    """Whether it is outside the groups of process 1. One that has ended meanwhile is nowhere."""
    try:
        now = process.cgroups()
    except NotFound:
        return False
    return any(not _within(now.get(name, ""), home.get(name, "")) for name in ("pids", "memory", ""))


def _within(path: str, home: str) -> bool:
    return path == home or path.startswith(home.rstrip("/") + "/")


def _limit(name: str, promised: float | None, actual: float | None) -> list[Finding]:
    if promised is None:
        return []
    if promised < 0:
        return [_check("Control groups", name, actual is None, "no limit", f"promised to be none, but is {actual}")]
    if actual is None and name == "memory + swap":
        return [Finding("Control groups", name, LIMITED, "not counted by this kernel", "--memory-swap has no effect",
                        "see sampan doctor")]
    good = actual is not None and abs(actual - promised) <= max(promised * LIMIT_ROUNDING, 0.001)
    def show(value: float) -> str:
        return f"{value / (1 << 20):g} MiB" if name.startswith("memory") else f"{value:g}"

    return [_check("Control groups", name, good, show(actual) if actual is not None else "no limit",
                   f"promised to be {show(promised)}")]


def _cpu_list(text: str) -> set[int]:
    """{0, 1, 3} for "0-1,3"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
