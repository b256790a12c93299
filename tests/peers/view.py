"""What a process saw of itself and its container, as facts that can be compared: name → text.

Left out is what no two runs have in common: pids, inode numbers, mount ids, anonymous device numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

View = dict[str, str]

_STATUS = (
    "Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
    "Seccomp_filters", "Speculation_Store_Bypass", "Cpus_allowed", "Mems_allowed", "SigBlk", "SigIgn", "SigCgt",
    "Threads", "CoreDumping",
)
_TEXTS = (
    "oom_score_adj", "loginuid", "timens_offsets", "uid_map", "gid_map", "setgroups", "personality", "attr/current",
    "coredump_filter", "cwd", "uname", "scheduler", "network", "ports", "id",
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def sections(text: str) -> dict[str, list[str]]:
    """The view program's raw output, by section. It must be complete."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").splitlines():
        if line.startswith("#### "):
            lines = found[line[5:]] = []
        elif line:
            lines.append(line)
    assert "end" in found, f"the program that shows its view did not come to its end:\n{text[-2000:]}"
    return found


def view(text: str, namespaces: Mapping[str, str] = {}) -> View:
    """`namespaces`: other namespaces' names by what the kernel calls them, beside those of this process."""
    raw = sections(text)
    facts: View = {}
    for name in _TEXTS:
        facts[name] = " ".join(" ".join(raw[name]).split())
    status = dict(line.split(":", 1) for line in raw["status"] if ":" in line)
    facts |= {f"status {name}": " ".join(status.get(name, "absent").split()) for name in _STATUS}
    facts |= _stat(raw["stat"][0])
    for line in raw["limits"][1:]:
        facts[f"limit {line[:26].strip()}"] = " ".join(line[26:].split())
    facts["environment"] = "\n".join(raw["environ"])  # the order counts: the last of two wins
    facts |= _namespaces(raw["ns"], namespaces)
    for line in raw["fd"]:
        number, _, target = line.partition(" ")
        facts[f"fd {number}"] = re.sub(r"\[\d+\]", "", target)
    for section in ("links", "watched", "kernel"):
        for line in raw[section]:
            name, _, value = line.partition(" ")
            facts[f"{section} {name}"] = value
    for line in raw["dev"]:
        name, _, value = line.partition("|")
        facts[f"device {name}"] = value
    for line in raw["tree"]:
        name, _, value = line.partition(" ")
        facts[f"tree {name}"] = value
    for line in raw["cgroup"]:
        _, controllers, path = line.split(":", 2)
        facts[f"cgroup {controllers}"] = path
    return facts | mounts(raw["mountinfo"])


def mounts(mountinfo: list[str]) -> View:
    """By target, the propagation apart; several on one target in the order they were made."""
    found: dict[str, list[str]] = {}
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        _, _, _, root, target, options, *propagation = left.split()
        fstype, source, superblock = right.split(" ", 2)
        kinds = " ".join(part.partition(":")[0] for part in propagation)
        text = f"{fstype} {source} {_plain(root)} {_sorted(options)}, {_sorted(superblock)}"
        found.setdefault(f"mount {_plain(target)}", []).append(text)
        found.setdefault(f"propagation {_plain(target)}", []).append(kinds or "private")
    return {name: "\n".join(texts) for name, texts in found.items()}


def differences(one: View, other: View) -> dict[str, tuple[str, str]]:
    """The facts that are not equal in both: name → (one's, other's)."""
    return {
        name: (one.get(name, "absent"), other.get(name, "absent"))
        for name in sorted(one.keys() | other.keys())
        if one.get(name, "absent") != other.get(name, "absent")
    }


def _stat(line: str) -> View:
    """proc(5), /proc/PID/stat; field numbers there begin with 1, the list here with the third."""
    fields = line.rpartition(") ")[2].split()
    pid = line.split(" ", 1)[0]

    def kind(number: int) -> str:
        value = fields[number - 3]
        return "own" if value == pid else "none" if value in ("0", "-1") else "other"

    return {
        "process group": kind(5), "session": kind(6), "foreground group": kind(8),
        "terminal": "none" if fields[7 - 3] == "0" else "some",
        "nice": fields[19 - 3], "rt priority": fields[40 - 3], "policy": fields[41 - 3],
    }


def _namespaces(lines: list[str], known: Mapping[str, str]) -> View:
    names = {os.readlink(entry): "host's" for entry in Path("/proc/self/ns").iterdir()} | dict(known)
    found = {}
    for line in lines:
        name, _, target = line.partition(" ")
        found[f"namespace {name}"] = names.get(target, "own")
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _sorted(options: str) -> str:
    return ",".join(sorted(options.split(",")))
