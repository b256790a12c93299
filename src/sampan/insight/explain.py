"""`sampan explain`: what a container is made of, why it ended, who slows it down: read from the kernel."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from sampan.errors import NotFound
from sampan.insight import ending, limits, promise, slowdown
from sampan.insight.groups import directories
from sampan.insight.proc import NAMESPACES, Process, count_namespaces, family
from sampan.linux import capability
from sampan.linux.cgroup import stats
from sampan.linux.mountinfo import Mount

KINDS = {
    "pid": "which processes it sees", "mnt": "which mounts it sees", "net": "its devices, addresses, ports",
    "uts": "its host name", "ipc": "its shared memory and message queues", "cgroup": "where its groups seem to begin",
    "user": "whose ids its ids are", "time": "what its clocks began with",
}
SECCOMP = {"0": "off: every system call is allowed", "1": "strict", "2": "filtered"}
COVERS = ("/proc/", "/sys/")


@dataclass
class Section:
    """A heading, then lines of (name, text); a line without a name is a sentence."""

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        self.lines.append((name, text))

    def say(self, *sentences: str) -> None:
        self.lines.extend(("", sentence) for sentence in sentences)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"title": self.title, "lines": [{"name": name, "text": text} for name, text in self.lines]}


def explain(details: dict[str, Any], events: list[dict[str, Any]], engine_pid: int = 0) -> list[Section]:
    """`details`: the API's inspect. `events`: what happened to the container. `engine_pid`: 0 when not known.

    Raises OSError when its processes cannot be looked at (not root).
    """
    if not details["State"]["Running"] or not details["State"]["Pid"]:
        return [_about(details), _ended(details, events)]
    try:
        init = Process(int(details["State"]["Pid"]))
        mounts = init.mounts()
        paths = directories(init, details)
        return [
            _about(details), _processes(init, details, engine_pid), _namespaces(init, details["HostConfig"]),
            _groups(paths), _root(details, mounts), _covered(mounts), _rights(init), _network(details),
            *_timings(details), _slow(paths, details["HostConfig"]),
        ]
    except NotFound:
        return [_about(details), Section("Now", [("", "It ended while it was being looked at: ask again.")])]


def _about(details: dict[str, Any]) -> Section:
    section = Section(f"Container {details['Name'].removeprefix('/')}")
    section.add("id", details["Id"][:12])
    section.add("image", f"{details['Config']['Image']} ({details['Image'].partition(':')[2][:12]})")
    section.add("command", " ".join([details["Path"], *details["Args"]]))
    section.add("state", details["State"]["Status"])
    return section


def _ended(details: dict[str, Any], events: list[dict[str, Any]]) -> Section:
    section = Section("Why it does not run")
    section.say(*ending.why(details, events))
    return section


def _processes(init: Process, details: dict[str, Any], engine_pid: int) -> Section:
    section = Section("Processes")
    shim = init.parent
    if engine_pid:
        section.add(f"engine {engine_pid}", "decides, and answers the API; when it ends, containers go on")
    if shim > 1:
        section.add(
            f"└─ shim {shim}",
            "parent of the container's process 1: holds its output, log and terminal, takes its exit status. It is a "
            "process of its own so that neither an end nor an upgrade of the engine touches the container",
        )
    members = family(init.pid) if promise.namespace("pid", details["HostConfig"]) != promise.HOST else [init]
    depth = {init.pid: 1}
    for process in members:
        depth.setdefault(process.pid, depth.get(process.parent, 1) + 1)
        lead = "   " * depth[process.pid] + "└─"
        inside = f", {process.inner_pid} inside" if process.inner_pid != process.pid else ""
        try:
            section.add(f"{lead} {process.pid}{inside}", process.command)
        except NotFound:
            continue
    return section


def _namespaces(init: Process, host: dict[str, Any]) -> Section:
    section = Section("Namespaces")
    ours, counted = Process(os.getpid()), count_namespaces()
    for kind in NAMESPACES:
        inode = init.namespace(kind)
        if not inode:
            section.add(kind, "this kernel has none")
            continue
        whose = "the host's" if inode == ours.namespace(kind) else "its own"
        if whose == "its own" and promise.namespace(kind, host) == promise.OTHER:
            whose = f"of {host[promise.MODES[kind]]}"
        section.add(kind, f"{whose.ljust(10)} {inode}   {KINDS[kind]} (one of {counted[kind]} on this host)")
    return section


def _groups(paths: dict[str, str]) -> Section:
    section = Section("Control groups")
    for directory in dict.fromkeys(paths.values()):
        names = [name for name, path in paths.items() if path == directory]
        section.add(",".join("v2" if name == "unified" else name for name in names), directory)
    now, used = limits.read(paths), stats.read(paths)
    most = f", at most so far {_mib(used.memory.max_usage)}" if used.memory.max_usage else ""
    section.add("memory", f"{_mib(used.memory.usage)} of {_mib(now.memory)}{most}")
    if now.memory_swap is not None:
        section.add("memory+swap", f"limit {_mib(now.memory_swap)}")
    section.add("processes", f"{used.pids.current} of {'any number' if now.pids is None else now.pids}")
    cpus = "all CPUs" if now.cpus is None else f"{now.cpus:g} CPUs"
    section.add("cpu", f"{used.cpu.usage_ns / 1e9:.2f} s used; limit {cpus}, shares {now.shares or 'none'}")
    if now.cpuset:
        section.add("cpuset", now.cpuset)
    return section


def _mib(size: int | None) -> str:
    return "no limit" if size is None else f"{size / (1 << 20):.1f} MiB"


def _root(details: dict[str, Any], mounts: list[Mount]) -> Section:
    section = Section("Mounts")
    for mount in mounts:
        if mount.target == "/":
            data = (details.get("GraphDriver") or {}).get("Data") or {}
            layers = len((data.get("LowerDir") or "").split(":")) if data.get("LowerDir") else 0
            upper = data.get("UpperDir") or "a layer of its own"
            section.add("/", f"{mount.kind}: {layers} read-only layer{'s' * (layers != 1)}, changes go to {upper}")
        elif not mount.target.startswith(COVERS):
            shown = mount.root if mount.root != "/" else mount.source
            mode = "read-only" if mount.read_only else "read-write"
            section.add(mount.target, f"{mount.kind} {shown}, {mode}")
    return section


def _covered(mounts: list[Mount]) -> Section:
    """The part of /proc and /sys that a container must not see or change."""
    section = Section("Masked and read-only paths")
    hidden = [
        m.target for m in mounts
        if m.target.startswith(COVERS) and m.kind in ("tmpfs", "devtmpfs") and m.target != "/sys/fs/cgroup"
    ]
    protected = [
        m.target for m in mounts if m.target.startswith(COVERS) and m.kind not in ("tmpfs", "devtmpfs") and m.read_only
    ]
    section.add("hidden", ", ".join(hidden) or "nothing")
    section.add("read-only", ", ".join(protected) or "nothing")
    return section


def _rights(init: Process) -> Section:
    section = Section("Rights")
    section.add("user", f"uid {init.uid} on the host, groups {init.status.get('Groups') or 'none'}")
    bounding = capability.to_names(init.mask("CapBnd"))
    missing = capability.last_cap() + 1 - len(bounding)
    section.add("capabilities", ", ".join(name.removeprefix("CAP_").lower() for name in bounding) or "none")
    section.add("", f"at most these {len(bounding)}; {missing} of the kernel's can never be had in it")
    filters = init.status.get("Seccomp_filters")
    mode = SECCOMP.get(init.status.get("Seccomp", ""), "unknown")
    section.add("seccomp", mode + (f" ({filters} filter{'s' if filters != '1' else ''})" if filters else ""))
    gain = "cannot" if init.status.get("NoNewPrivs") == "1" else "can"
    section.add("set-uid", f"programs {gain} gain rights by it")
    section.add("oom score", init.read("oom_score_adj").strip() + " added; the highest is killed first")
    return section


def _network(details: dict[str, Any]) -> Section:
    section = Section("Network")
    settings = details["NetworkSettings"]
    for name, endpoint in (settings.get("Networks") or {}).items():
        address = f"{endpoint['IPAddress']}/{endpoint['IPPrefixLen']}" if endpoint.get("IPAddress") else "no address"
        device = endpoint.get("MacAddress") or "no device"
        section.add(name, f"{address}, gateway {endpoint.get('Gateway') or 'none'}, {device}")
    for port, bindings in (settings.get("Ports") or {}).items():
        for binding in bindings or ():
            section.add(port, f"reached at {binding['HostIp']}:{binding['HostPort']} of the host")
    return section


def _timings(details: dict[str, Any]) -> list[Section]:
    """The flight recorder of the start, when the engine keeps it (State.StartSteps: [{name, detail, micros}])."""
    steps = details["State"].get("StartSteps")
    if not steps:
        return []
    section = Section("Start")
    for step in steps:
        section.add(f"{step['micros']:>6} µs", f"{step['name']} {step.get('detail') or ''}".strip())
    section.add(f"{sum(step['micros'] for step in steps):>6} µs", "in all")
    return [section]


def _slow(paths: dict[str, str], host: dict[str, Any]) -> Section:
    section = Section("Who slows it down")
    seen = slowdown.watch(paths, promise.cpu_quota(host))
    section.say(*slowdown.sentences(seen, int(host.get("CpuShares") or 0)))
    return section
