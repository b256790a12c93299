"""`explain` and `verify` of real containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import engine_fixture
from sampan.cli.main import main
from sampan.insight.explain import Section, explain
from sampan.insight.finding import LIMITED, MISSING, Finding
from sampan.insight.verify import verify

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LIMITS: dict[str, Any] = {
    "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 30, "CpusetCpus": "0",
    "CpuShares": 512,
}


@pytest.fixture(scope="module")
def boat() -> Iterator[engine_fixture.Engine]:
    with engine_fixture.engine() as running:
        yield running


@pytest.fixture
def remove(boat: engine_fixture.Engine) -> Iterator[list[str]]:
    made: list[str] = []
    yield made
    for id in made:
        boat.ask("DELETE", f"/containers/{id}?force=1")


def started(boat: engine_fixture.Engine, remove: list[str], *command: str, **host: Any) -> dict[str, Any]:
    remove.append(boat.run(*command, HostConfig=host))
    details: dict[str, Any] = boat.inspect(remove[-1])
    return details


def failed(findings: list[Finding]) -> dict[str, str]:
    return {f"{finding.group}/{finding.name}": finding.value for finding in findings if finding.level == MISSING}


def test_a_container_keeps_its_promises(boat: engine_fixture.Engine, remove: list[str]) -> None:
    details = started(
        boat, remove, "sleep", "1000", ReadonlyRootfs=True, SecurityOpt=["no-new-privileges"], CapDrop=["KILL"],
        **LIMITS,
    )
    found = verify(details)
    assert failed(found) == {}
    assert {"Rights/seccomp", "Control groups/memory", "File system/read-only root"} <= {
        f"{finding.group}/{finding.name}" for finding in found
    }


def test_what_was_given_away_is_said(boat: engine_fixture.Engine, remove: list[str]) -> None:
    details = started(
        boat, remove, "sleep", "1000", Privileged=True, PidMode="host", NetworkMode="host",
        Binds=["/etc:/host", "/run:/r"],
    )
    found = verify(details)
    assert failed(found) == {}
    weak = {finding.name for finding in found if finding.level == LIMITED}
    assert {"privileged", "seccomp", "host files"} <= weak


@pytest.mark.parametrize(("change", "name"), [
    ({"Memory": 32 << 20}, "Control groups/memory"),
    ({"PidsLimit": 10}, "Control groups/processes"),
    ({"NanoCpus": 250_000_000}, "Control groups/CPUs"),
    ({"CpusetCpus": "0-1"}, "Control groups/CPU set"),
    ({"CapDrop": ["CHOWN"]}, "Rights/bounding"),
    ({"PidMode": "host"}, "Namespaces/pid"),
    ({"ReadonlyRootfs": True}, "File system/read-only root"),
    ({"MaskedPaths": ["/proc/version"]}, "File system/masked paths"),
    ({"ReadonlyPaths": ["/tmp"]}, "File system/read-only paths"),
    ({"SecurityOpt": ["no-new-privileges"]}, "Rights/no_new_privs"),
])
def test_a_broken_promise_is_found(
    change: dict[str, Any], name: str, boat: engine_fixture.Engine, remove: list[str]
) -> None:
    details = started(boat, remove, "sleep", "1000", **LIMITS)
    details["HostConfig"] |= change
    assert name in failed(verify(details))


def test_a_device_node_that_was_not_given(boat: engine_fixture.Engine, remove: list[str]) -> None:
    details = started(boat, remove, "sh", "-c", "mknod /dev/extra c 1 3; sleep 1000")
    boat.docker("exec", remove[-1], "sh", "-c", "until [ -e /dev/extra ]; do :; done")
    assert failed(verify(details))["Devices//dev"] == "extra"


def test_a_symlink_at_dev_leads_nowhere(boat: engine_fixture.Engine, remove: list[str]) -> None:
    """The container decides what its /dev is: looking at it must not end in the host's (CVE-2026-41579's class)."""
    script = "umount -l /dev && rmdir /dev && ln -s / /tmp/x && ln -s /tmp/x/../../dev /dev; sleep 1000"
    details = started(boat, remove, "sh", "-c", script, CapAdd=["SYS_ADMIN"])
    boat.docker("exec", remove[-1], "sh", "-c", "until [ -L /dev ]; do :; done")
    assert "Devices//dev" not in {f"{finding.group}/{finding.name}" for finding in verify(details)}


def text_of(sections: list[Section]) -> str:
    return "\n".join(f"{section.title}: {name} {text}" for section in sections for name, text in section.lines)


def test_a_running_container_is_explained(boat: engine_fixture.Engine, remove: list[str]) -> None:
    details = started(boat, remove, "sh", "-c", "sleep 1000 & wait", **LIMITS)
    text = text_of(explain(details, [], boat.pid))
    pid = details["State"]["Pid"]
    for words in (
        f"engine {boat.pid}", f"{pid}, 1 inside sh -c", "Namespaces: pid its own", "Namespaces: user the host's",
        f"memory {details['State']['Cgroups']['memory']}" if "memory" in details["State"]["Cgroups"] else "v2",
        "of 64.0 MiB", "limit 0.5 CPUs, shares 512", "overlay: 1 read-only layer,", "/proc/kcore"
        if os.path.exists("/proc/kcore") else "/sys/firmware", "at most these 14", "filtered", "it was not throttled",
    ):
        assert words in text, f"{words!r} is not in\n{text}"


def test_a_throttled_container_is_told_why(boat: engine_fixture.Engine, remove: list[str]) -> None:
    details = started(boat, remove, "sh", "-c", "while :; do :; done", NanoCpus=100_000_000)
    assert "its own limit is what slows it" in text_of(explain(details, []))


def test_a_dead_container_is_told_why(boat: engine_fixture.Engine, remove: list[str]) -> None:
    hog = "x=$(head -c 100000000 /dev/zero | tr '\\0' x)"
    id = started(boat, remove, "sh", "-c", hog, Memory=16 << 20, MemorySwap=16 << 20)["Id"]
    assert boat.wait(id) == 137
    assert "more than its memory limit of 16 MiB" in text_of(explain(boat.inspect(id), []))


def test_the_commands(
    boat: engine_fixture.Engine, remove: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPAN_HOST", f"unix://{boat.socket}")
    id = started(boat, remove, "sleep", "1000")["Id"]
    assert main(["verify", id]) == 0
    assert "its isolation holds as configured" in capsys.readouterr().out
    assert main(["explain", id]) == 0
    assert "parent of the container's process 1" in " ".join(capsys.readouterr().out.split())
    subprocess.run(["docker", "stop", "-t", "0", id], env=boat.environment, check=True, capture_output=True)
    assert main(["explain", id]) == 0
    assert "Somebody used stop" in " ".join(capsys.readouterr().out.split())
    assert main(["verify", id]) == 1
    assert "is not running" in capsys.readouterr().err
