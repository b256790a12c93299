"""Attacks from inside on the words between the runtime and a process that joins the container (CVE-2016-9962)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, ended

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def thief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("thief") / "thief"
    source = Path(__file__).with_name("thief.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return program


@pytest.mark.parametrize("more", [(), ("CAP_SYS_PTRACE",)])
def test_cve_2016_9962_nobody_inside_speaks_for_what_joins(
    boat: Dock, thief: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Who gets hold of the socket of what joins could name any process of the host as the container's: the pid file's
    reader would kill it. Without the right to trace nobody does; with it nothing is believed.
    """
    for names in boat.config["process"]["capabilities"].values():
        names += more
    (boat.root / "thief").write_bytes(thief.read_bytes())
    (boat.root / "thief").chmod(0o755)
    victim = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        lie = json.dumps({"born": victim.pid, "ready": "{}"})
        pid = boat.launch("sh", "-c", f"/thief '{lie}' > /found 2>&1; exit 0")
        for number in range(4):
            pid_file = tmp_path / f"pid-{number}"
            done = boat.call(
                "exec", "--detach", "--pid-file", str(pid_file), boat.name, "sleep", "1000",
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,  # which the program has open as long as it runs
            )
            if done.returncode == 0:
                same = [os.readlink(f"/proc/{each}/ns/pid") for each in (pid, int(pid_file.read_text()))]
                assert same[0] == same[1]
            else:
                assert more and not pid_file.exists()
        (boat.root / "stop").touch()
        ended(pid)
        stolen = (boat.root / "found").read_text().splitlines()
        assert bool(stolen) == bool(more)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
