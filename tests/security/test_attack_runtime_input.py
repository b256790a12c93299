"""Attacks on the runtime by what it is told: lengths, hooks, sysctls, ids."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, ended, map_ids, one_clear_line

from sampan.errors import InvalidArgument
from sampan.linux.cgroup import unit_properties

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


# ---- CVE-2021-43784: lengths that overflow ----


def test_cve_2021_43784_lengths_are_bounded(boat: Dock) -> None:
    """What is too long is refused, or arrives whole: nothing is cut or wraps."""
    linux = boat.config["linux"]
    usual = json.dumps(boat.config)
    mappings = [{"containerID": number, "hostID": 100000 + number, "size": 1} for number in range(70_000)]
    for what in ("maps", "hostname", "program", "arguments", "cwd", "mount", "env", "cgroup", "annotations"):
        boat.config = json.loads(usual)
        process, linux = boat.config["process"], boat.config["linux"]
        process["args"] = ["true"]
        if what == "maps":
            linux["namespaces"].append({"type": "user"})
            linux["uidMappings"] = linux["gidMappings"] = mappings
        elif what == "hostname":
            boat.config["hostname"] = "x" * 65536
        elif what == "program":
            process["args"] = ["x" * (2 << 20)]
        elif what == "arguments":
            process["args"] += ["x" * 100_000] * 60
        elif what == "cwd":
            process["cwd"] = "/" + "x" * (2 << 20)
        elif what == "mount":
            boat.config["mounts"].append({"destination": "/" + "d/" * (1 << 20), "type": "tmpfs", "source": "tmpfs"})
        elif what == "env":
            process["env"] = ["A=" + "x" * (3 << 20)]
        elif what == "cgroup":
            linux["cgroupsPath"] = "/" + "x" * 5000
        else:
            boat.config["annotations"] = {"key": "x" * (20 << 20)}
        done = boat.run()
        assert done.returncode in (1, 126, 127), (what, done.returncode)
        assert len(one_clear_line(done.stderr)) < 10_000, what
        assert not boat.states.exists() or os.listdir(boat.states) == [], what


def test_cve_2021_43784_many_mappings_arrive_whole(boat: Dock) -> None:
    map_ids(boat)
    singles = [{"containerID": number, "hostID": 100000 + number, "size": 1} for number in range(250)]
    boat.config["linux"]["uidMappings"] = singles
    done = boat.run("sh", "-c", "wc -l < /proc/self/uid_map; tail -n 1 /proc/self/uid_map")
    assert done.stdout.split() == ["250", "249", "100249", "1"], done.stderr


# ---- CVE-2025-23266: the environment of hooks ----


def test_cve_2025_23266_hooks_have_their_own_environment(boat: Dock, tmp_path: Path) -> None:
    out = tmp_path / "environments"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"{{ /usr/bin/env; echo --; }} >> {out}"], "env": ["MINE=1"]}
    names = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    boat.config["hooks"] = {name: [hook] for name in names}
    boat.config["process"]["env"] += ["LD_PRELOAD=/evil.so", "OF_THE_IMAGE=1"]
    boat.env = {"LD_LIBRARY_PATH": "/nowhere", "OF_THE_CALLER": "1"}
    done = boat.run("true")
    assert done.returncode == 0, done.stderr
    seen = out.read_text()
    assert seen.count("--") == len(names) and seen.count("MINE=1") == len(names)
    assert not any(word in seen for word in ("LD_", "OF_THE_IMAGE", "OF_THE_CALLER"))


# ---- CVE-2022-0811: sysctls ----


@pytest.mark.parametrize("key", [
    "kernel.core_pattern", "kernel/core_pattern", "net/../kernel/core_pattern", "../../etc/passwd", "",
    "net.ipv4.ip_forward+kernel.core_pattern", "kernel.shm_rmid_forced/../core_pattern", "vm.overcommit_memory",
    "kernel.shmmax\nx", "net..ipv4.ip_forward", "fs.mqueue.", "fs.mqueue.../../file-max", "kernel.sem=1",
    "/proc/sys/kernel/core_pattern",
])
def test_cve_2022_0811_a_sysctl_is_one_of_a_namespace(boat: Dock, key: str) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    boat.config["linux"]["sysctl"] = {key: "|/evil"}
    done = boat.run("true")
    assert done.returncode == 1
    assert "sysctl" in one_clear_line(done.stderr)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


# ---- pids and ids ----


def test_a_pid_that_is_somebody_elses_now_is_not_touched(boat: Dock) -> None:
    """state.json still names the number; only the start time tells. Nothing may signal, join or kill that process."""
    pid = boat.launch("sleep", "1000")
    victim = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        boat.ok("kill", boat.name, "KILL")
        ended(pid)
        file = boat.states / boat.name / "state.json"
        file.write_text(file.read_text().replace(f'"pid":{pid}', f'"pid":{victim.pid}'))
        assert json.loads(file.read_text())["pid"] == victim.pid
        assert boat.state()["status"] == "stopped" and boat.state()["pid"] == 0
        for command in (("kill", "KILL"), ("exec", "true"), ("pause",), ("start",)):
            done = boat.call(command[0], boat.name, *command[1:])
            assert done.returncode in (1, 255), command
            one_clear_line(done.stderr)
        boat.ok("delete", "--force", boat.name)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


IDS = ["../x", "..", ".", "", "a/b", "/etc", "a\nb", "é", "x" * 300, "a b", "a\\b", "$(id)", "~"]


@pytest.mark.parametrize("name", IDS)
def test_an_id_is_not_a_path(boat: Dock, name: str) -> None:
    boat.write()
    before = sorted(os.listdir(boat.directory))
    for command in (
        ["create", "--bundle", str(boat.directory), "--", name], ["run", "--bundle", str(boat.directory), "--", name],
        ["state", "--", name], ["start", "--", name], ["kill", "--", name, "9"], ["delete", "--force", "--", name],
        ["exec", "--", name, "true"], ["pause", "--", name], ["ps", "--", name],
    ):
        done = boat.call(*command)
        assert done.returncode != 0, command
        one_clear_line(done.stderr)
    left = sorted(os.listdir(boat.directory))
    assert [entry for entry in left if entry != "states"] == before
    assert not boat.states.exists() or os.listdir(boat.states) == []


# ---- memory ----


def test_what_an_image_fills_a_tmpfs_with_counts_against_the_containers_limit(boat: Dock) -> None:
    """tmpcopyup copies what the image holds, as much as that is: not at the cost of the engine's own cgroup."""
    (boat.root / "data").mkdir()
    (boat.root / "data" / "big").write_bytes(os.urandom(1 << 20) * 48)
    boat.config["mounts"].append(
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=128m"]}
    )
    boat.config["linux"]["namespaces"].remove({"type": "cgroup"})
    boat.config["linux"]["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    done = boat.run("cat", "/data/big")
    assert done.returncode == 1 and done.stdout == ""
    assert "killed by the memory limit" in one_clear_line(done.stderr)


# ---- what the caller leaves behind ----


def test_a_caller_that_ignores_its_children(boat: Dock) -> None:
    """SIGCHLD ignored is inherited: then the kernel takes every exit code itself, and gives pids away that we hold."""
    boat.program = ("env", "--ignore-signal=CHLD", *boat.program)
    boat.config["hooks"] = {"prestart": [{"path": "/bin/true"}]}
    assert boat.run("sh", "-c", "exit 7").returncode == 7
    boat.launch("sleep", "1000")
    assert boat.exec("sh", "-c", "exit 7").returncode == 7


# ---- what is long ----


def test_cve_2018_20699_a_list_of_cpus_that_repeats_itself_costs_no_time(boat: Dock) -> None:
    """8192 numbers for six letters: as many as go into a config.json took minutes."""
    boat.config["process"]["execCPUAffinity"] = {"initial": ",".join(["0-8191"] * 500_000)}
    done = boat.run("true", timeout=10)
    assert done.returncode == 1
    assert "over and over" in one_clear_line(done.stderr)


def test_a_warning_is_no_longer_than_an_error(boat: Dock) -> None:
    """Whoever reads the log reads it by lines."""
    boat.config["process"]["capabilities"]["bounding"] += [f"CAP_{'X' * 1000}_{number}" for number in range(1000)]
    done = boat.run("true")
    assert done.returncode == 0
    assert len(done.stderr) < 5000 and "ignoring unknown" in one_clear_line(done.stderr)


# ---- annotations ----


@pytest.mark.parametrize(("name", "value"), [
    ("Slice", "'system.slice'"), ("DevicePolicy", "'auto'"), ("User", "'1000'"), ("Requires", "['reboot.target']"),
    ("Conflicts", "['ssh.service']"), ("OnFailure", "['emergency.target']"), ("SuccessAction", "'reboot-force'"),
])
def test_an_annotation_gives_the_hosts_systemd_no_orders(name: str, value: str) -> None:
    """Annotations come from whoever writes the image or the pod."""
    with pytest.raises(InvalidArgument, match=f"invalid annotation org.systemd.property.{name}"):
        unit_properties.of_annotations({f"org.systemd.property.{name}": value})
