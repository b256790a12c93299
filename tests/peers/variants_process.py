"""Variants of what a process is given."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from peers.bundle import Bundle
from peers.variant import expected, variant
from sampan.engine.spec.seccomp import default_policy

CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _capabilities(bundle: Bundle, **sets: str) -> None:
    bundle.process["capabilities"] = {
        name: [f"CAP_{word.upper()}" for word in sets.get(name, "").split()] for name in CAPABILITY_SETS
    }


@variant()
def user(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 50, 1000], "umask": 0o027}


@variant()
def user_without_a_name(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 4711, "gid": 4712}


@variant()
def user_with_capabilities(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    some = "chown kill net_bind_service"
    _capabilities(bundle, bounding=some, effective=some, permitted=some, inheritable=some, ambient="kill")


@variant()
def no_capabilities(bundle: Bundle) -> None:
    _capabilities(bundle)


@variant()
def no_capabilities_member(bundle: Bundle) -> None:
    del bundle.process["capabilities"]


@variant()
def capability_sets_that_differ(bundle: Bundle) -> None:
    _capabilities(bundle, bounding="chown kill mknod", permitted="chown kill", effective="kill", inheritable="chown")


@variant()
def privileges_may_grow(bundle: Bundle) -> None:
    bundle.process["noNewPrivileges"] = False


@variant()
def rlimits(bundle: Bundle) -> None:
    bundle.process["rlimits"] = [
        {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}
        for name, soft, hard in [
            ("NOFILE", 100, 200), ("NPROC", 500, 600), ("CORE", 0, 0), ("FSIZE", 1 << 30, 1 << 31),
            ("STACK", 1 << 20, 1 << 24), ("AS", 1 << 32, 1 << 33), ("CPU", 100, 200), ("DATA", 1 << 30, 1 << 31),
            ("LOCKS", 10, 20), ("MEMLOCK", 0, 4096), ("MSGQUEUE", 1000, 2000), ("NICE", 0, 0),
            ("RSS", 1 << 30, 1 << 31), ("RTPRIO", 0, 0), ("RTTIME", 1000, 2000), ("SIGPENDING", 10, 20),
        ]
    ]


@variant()
def environment(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin", "A=1", "B=", "C=a=b c", "A=2", "HOME=/nowhere", "LANG=é"]


@variant()
def environment_without_home(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}


@variant()
def environment_without_home_or_user(bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": 4711, "gid": 4711}


@variant()
def cwd(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/etc"


@variant()
def cwd_that_is_new(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/new/one"


@variant()
def oom_score(bundle: Bundle) -> None:
    bundle.process["oomScoreAdj"] = 321


@variant()
def argument_path(bundle: Bundle) -> None:
    bundle.process["args"][0] = "/bin/sh"


@variant("crun")  # runc since 1.2
def personality(bundle: Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX32"}


@expected({"policy": "3", "nice": "5"})  # runc since 1.2, crun since 1.9
def scheduler(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}


@expected({"scheduler": "best-effort: prio 6 3"})
def io_priority(bundle: Bundle) -> None:
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}


@variant()
def seccomp(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }


@variant()
def seccomp_of_docker(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = docker_seccomp()
    bundle.process["noNewPrivileges"] = False


def docker_seccomp() -> Any:
    """Docker's default policy, as an engine hands it to a runtime."""
    policy = default_policy(frozenset({"CAP_CHOWN", "CAP_KILL"}), os.uname().machine, (6, 1))
    return msgspec.json.decode(msgspec.json.encode(policy))
