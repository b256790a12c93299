"""Hypothesis strategies for config.json: a document that uses all of the spec, changed somewhere, or in some places."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

WHOLE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "terminal": False, "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 20]},
        "args": ["/bin/true"], "env": ["PATH=/bin", "A=b"], "cwd": "/",
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": [], "ambient": [],
        },
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}], "noNewPrivileges": True, "oomScoreAdj": 100,
        "apparmorProfile": "", "selinuxLabel": "",
        "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": []},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0", "final": "0"},
    },
    "root": {"path": "root", "readonly": True},
    "hostname": "boat", "domainname": "harbour",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": []},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro", "rprivate"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]},
    ],
    "linux": {
        "namespaces": [
            {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            {"type": "cgroup"}, {"type": "time"},
        ],
        "timeOffsets": {"monotonic": {"secs": 10, "nanosecs": 5}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "cgroupsPath": "/fuzz",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3}],
            "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 64 << 20, "swappiness": 10},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 100},
            "blockIO": {"weight": 100, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1 << 20}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}},
            "unified": {"pids.max": "50"},
        },
        "rootfsPropagation": "rslave",
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "flags": [],
            "syscalls": [{
                "names": ["getcwd", "personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
            }],
        },
        "sysctl": {"net.ipv4.ip_default_ttl": "65"},
        "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"],
        "mountLabel": "", "personality": {"domain": "LINUX", "flags": []},
        "memoryPolicy": {"mode": "MPOL_DEFAULT", "nodes": "", "flags": []},
        "uidMappings": [], "gidMappings": [], "netDevices": {},
    },
    "hooks": {
        "prestart": [], "createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}],
        "createContainer": [], "startContainer": [], "poststart": [], "poststop": [],
    },
    "annotations": {"org.example.key": "value"},
}
"""Uses every member of the spec's Linux part that a start on any host survives, or nearly."""

NUMBERS = (
    0, 1, -1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30,
)
WORDS = (
    "", " ", "/", ".", "..", "../../..", "a", "-1", "0", "/proc/self/fd/7", "/dev/null", "\n", "\t", "%s%n", "\u202e",
    "é", "\U0001f6a2", "\x7f", "a\0b", "\ud800", "SCMP_ACT_KILL", "CAP_SYS_ADMIN", "x" * 300, "/" + "d/" * 2500,
    "x" * 70000, "rbind", "ro", "size=999999999999999999999", "mode=abc", "lowerdir=/", "host", "container", "0-",
    "0-99999999", "1,,2", "2MB", "max", "SCHED_DEADLINE", "RLIMIT_AS", "RLIMIT_NOFILE", "net.a", "kernel.shmmax",
    "user", "pid", "network", "SCMP_ARCH_ARM", "LINUX32", "idmap", "rro", "rshared", "unbindable", "tmpcopyup",
)


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.text(max_size=20), st.integers(), st.none(), st.booleans(),
    st.floats(allow_nan=False), st.lists(st.sampled_from(WORDS), max_size=3), st.just({}), st.just([]),
    st.builds(_deep, st.sampled_from([2, 50, 600])),
    st.dictionaries(st.sampled_from(WORDS[:20]), st.sampled_from(NUMBERS + WORDS[:20]), max_size=2),
)


def places(value: Any, at: Path = ()) -> Iterator[Path]:
    """The path of every member and item, outer ones first."""
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in members:
        yield (*at, key)
        yield from places(below, (*at, key))


PLACES = list(places(WHOLE))


def _holder(document: Any, path: Path) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


@st.composite
def configs(draw: st.DrawFn, base: dict[str, Any] = WHOLE, most: int = 4) -> dict[str, Any]:
    """The document with up to `most` changes: a value replaced by one of another kind, size or meaning; a member left
    out, doubled, put elsewhere, or of the same type but with another member's value.
    """
    document = copy.deepcopy(base)
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(PLACES if base is WHOLE else list(places(base))))
        try:
            holder = _holder(document, path)
            old = holder[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
        if isinstance(old, str | bytes) and isinstance(holder, str):
            continue
        how = draw(st.sampled_from(["replace", "replace", "alike", "remove", "double", "move"]))
        if how == "replace":
            holder[path[-1]] = draw(VALUES)
        elif how == "alike":
            holder[path[-1]] = draw(_alike(old))
        elif how == "remove":
            del holder[path[-1]]
        elif how == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(old))
        elif how == "move" and isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS))] = holder.pop(path[-1])
    return document


def _alike(old: Any) -> st.SearchStrategy[Any]:
    """Another value of the same type: what a decoder lets through."""
    if isinstance(old, bool):
        return st.just(not old)
    if isinstance(old, int):
        return st.sampled_from(NUMBERS)
    if isinstance(old, str):
        return st.sampled_from(WORDS) | st.text(max_size=30)
    if isinstance(old, list):
        return st.lists(st.sampled_from(old), max_size=5) if old else st.just([])
    return st.just({})
