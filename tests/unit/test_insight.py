"""What insight says, from given facts: endings, promises, /proc's lines, who slows a container down."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.insight import ending, promise, slowdown
from sampan.insight.finding import LIMITED, MISSING, OK, Finding, worst
from sampan.insight.probe import ProbeFailed, attempt
from sampan.linux import mountinfo
from sampan.linux.cgroup import stats

ALL = frozenset(promise.DEFAULT_CAPABILITIES | {"CAP_SYS_ADMIN", "CAP_NET_ADMIN"})


def dead(code: int = 0, *, memory: int = 0, restarts: int = 0, status: str = "exited", **state: Any) -> dict[str, Any]:
    return {
        "State": {"Status": status, "ExitCode": code, "OOMKilled": False, "Error": "", **state},
        "RestartCount": restarts,
        "HostConfig": {"Memory": memory, "RestartPolicy": {"Name": "always"}},
    }


def event(action: str, **attributes: str) -> dict[str, Any]:
    return {"Action": action, "Actor": {"Attributes": attributes}}


@pytest.mark.parametrize(("details", "events", "words"), [
    (dead(0), [], ["by itself, with success"]),
    (dead(3), [], ["exit status 3", "sampan logs"]),
    (dead(127, Error="exec: x"), [], ["not started", "exec: x"]),
    (dead(127), [], ["by convention"]),
    (dead(139), [], ["SIGSEGV", "defect"]),
    (dead(137), [], ["SIGKILL", "Nobody asked the engine"]),
    (dead(137), [event("kill", signal="9")], ["Somebody used kill", "SIGKILL"]),
    (dead(143), [event("kill", signal="15"), event("stop")], ["Somebody used stop", "SIGTERM"]),
    (dead(137), [event("kill", signal="15"), event("kill", signal="9"), event("stop")], ["grace time", "--init"]),
    (dead(1), [event("kill", signal="9"), event("start")], ["exit status 1"]),
    (dead(137, memory=20 << 20, OOMKilled=True, KilledBy=ending.MEMORY_LIMIT), [], ["20 MiB", "sampan update"]),
    (dead(137, OOMKilled=True, KilledBy=ending.HOST_MEMORY), [], ["the host", "ran out of memory"]),
    (dead(137, KilledBy=ending.SHIM_LOST), [], ["shim"]),
    (dead(1, restarts=3), [], ["started again 3 times"]),
    (dead(status="created"), [], ["not been started yet"]),
    (dead(status="created", Error="no such program"), [], ["could not be started", "no such program"]),
])
def test_why_it_ended(details: dict[str, Any], events: list[dict[str, Any]], words: list[str]) -> None:
    text = " ".join(ending.why(details, events))
    for word in words:
        assert word in text
    if events and "start" in events[-1]["Action"]:
        assert "kill" not in text


def test_signal_names() -> None:
    assert ending.signal_name(9) == "SIGKILL"
    assert ending.signal_name(63).startswith("signal")


@pytest.mark.parametrize(("host", "expected"), [
    ({}, promise.DEFAULT_CAPABILITIES),
    ({"CapDrop": ["ALL"]}, frozenset()),
    ({"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}, {"CAP_CHOWN"}),
    ({"CapAdd": ["net_admin"]}, promise.DEFAULT_CAPABILITIES | {"CAP_NET_ADMIN"}),
    ({"CapDrop": ["CAP_KILL"]}, promise.DEFAULT_CAPABILITIES - {"CAP_KILL"}),
    ({"CapAdd": ["ALL"]}, ALL),
    ({"CapAdd": ["ALL"], "CapDrop": ["SYS_ADMIN"]}, ALL - {"CAP_SYS_ADMIN"}),
    ({"Privileged": True}, ALL),
])
def test_promised_capabilities(host: dict[str, Any], expected: frozenset[str]) -> None:
    assert promise.capabilities(host, ALL) == expected


def test_other_promises() -> None:
    assert promise.namespace("pid", {}) == promise.OWN
    assert promise.namespace("pid", {"PidMode": "host"}) == promise.HOST
    assert promise.namespace("net", {"NetworkMode": "container:x"}) == promise.OTHER
    assert promise.namespace("user", {}) == "" and promise.namespace("mnt", {}) == promise.OWN
    assert promise.seccomp({}) and not promise.seccomp({"Privileged": True})
    assert not promise.seccomp({"SecurityOpt": ["seccomp=unconfined"]})
    assert promise.seccomp({"SecurityOpt": ["seccomp={}"], "Privileged": True})
    assert promise.no_new_privileges({"SecurityOpt": ["no-new-privileges"]})
    assert promise.masked({"Privileged": True}) == [] and "/proc/kcore" in promise.masked({})
    assert promise.devices({"Privileged": True}) is None
    assert "fuse2" in (promise.devices({"Devices": [{"PathInContainer": "/dev/fuse2"}]}) or ())
    assert promise.cpu_quota({"NanoCpus": 500_000_000}) == 0.5
    assert promise.cpu_quota({"CpuQuota": 20_000, "CpuPeriod": 10_000}) == 2.0
    assert promise.cpu_quota({"CpuQuota": -1}) is None


def test_mountinfo() -> None:
    line = r"394 369 0:6 /null /proc/a\040b ro,relatime shared:5 master:1 - devtmpfs dev\134x rw,size=1"
    mount = mountinfo.parse(line)
    assert (mount.id, mount.root, mount.target, mount.source) == (394, "/null", "/proc/a b", "dev\\x")
    assert mount.read_only and mount.propagation == ["shared:5", "master:1"] and mount.kind == "devtmpfs"


def test_worst() -> None:
    def finding(level: str) -> Finding:
        return Finding("g", "n", level, "v")

    assert worst([]) == OK
    assert worst([finding(OK), finding(LIMITED)]) == LIMITED
    assert worst([finding(MISSING), finding(LIMITED)]) == MISSING


def test_probes_cannot_hurt_the_asker() -> None:
    def dies() -> str:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    def fails() -> str:
        raise PermissionError(1, "Operation not permitted", "/x")

    assert attempt(lambda: "fine") == "fine"
    with pytest.raises(ProbeFailed, match="signal 9"):
        attempt(dies)
    with pytest.raises(ProbeFailed, match="/x: Operation not permitted"):
        attempt(fails)


@pytest.mark.parametrize(("seen", "words"), [
    ({"throttled": 2, "periods": 3, "quota": 0.5}, ["throttled in 2 of 3", "--cpus"]),
    ({}, ["has no limit", "not throttled"]),
    ({"neighbours": [("b" * 64, 1.5)], "host_busy": 2.0}, ["bbbbbbbbbbbb (1.50)", "--cpu-shares"]),
    ({"memory": stats.Memory(usage=9 << 20, limit=10 << 20, failures=7, oom_kills=1)}, ["7 times", "9.0 MiB"]),
    ({"pressure": {"io": 12.0}}, ["12% for io"]),
])
def test_who_slows_it_down(seen: dict[str, Any], words: list[str]) -> None:
    facts: dict[str, Any] = {
        "cpus": 0.5, "quota": None, "periods": 0, "throttled": 0, "neighbours": [], "host_busy": 0.1, "host_cpus": 2,
        "pressure": {}, "memory": stats.Memory(),
    }
    text = " ".join(slowdown.sentences(slowdown.Watched(**{**facts, **seen}), 512))
    for word in words:
        assert word in text
