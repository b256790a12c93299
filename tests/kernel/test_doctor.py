"""`doctor` on the real kernel: what it says is what is so, and it leaves nothing behind (the leak fixture looks)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sampan.cli.main import main
from sampan.insight import doctor
from sampan.insight.finding import MISSING, OK, Finding
from sampan.insight.probes import cgroups, namespaces, security
from sampan.linux import cgroup

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def by_name(findings: list[Finding]) -> dict[tuple[str, str], Finding]:
    return {(finding.group, finding.name): finding for finding in findings}


def test_this_host_can_run_containers(tmp_path: Path) -> None:
    found = doctor.examine(tmp_path)
    missing = [finding for finding in found if finding.level == MISSING]
    assert not missing, missing
    assert len(by_name(found)) == len(found), "two findings of one name"
    assert all(finding.meaning for finding in found if finding.level != OK)


def test_namespaces_agree_with_proc() -> None:
    found = by_name(namespaces.examine())
    for kind, file in (("pid", "pid"), ("mount", "mnt"), ("time", "time"), ("user", "user")):
        there = os.path.exists(f"/proc/self/ns/{file}")
        assert (found["Namespaces", kind].level == OK) == there


def test_controllers_agree_with_the_mounts() -> None:
    host = cgroup.detect()
    found = by_name(cgroups.examine())
    assert found["Control groups", "mode"].value.startswith(host.mode)
    for name, directory in host.v1.items():
        if name in cgroups.CONTROLLERS:
            assert found["Control groups", name].value == directory


def test_a_lost_capability_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sampan.lean.record import replace
    from sampan.linux import capability

    sets = capability.read()
    weaker = replace(sets, effective=sets.effective & ~capability.to_mask(["CAP_NET_ADMIN", "CAP_MKNOD"]))
    monkeypatch.setattr(security.capability, "read", lambda: weaker)
    finding = by_name(security.examine())["Security", "capabilities"]
    assert finding.level == MISSING
    assert "NET_ADMIN: networks" in finding.meaning and "MKNOD" in finding.meaning


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--data-root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "✓ clone3" in text and "0 missing" in text
    assert main(["doctor", "--json", "--data-root", str(tmp_path)]) == 0
    assert {"group", "name", "level", "value", "meaning", "remedy"} == set(json.loads(capsys.readouterr().out)[0])
