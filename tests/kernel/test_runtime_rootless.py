"""The runtime as an ordinary user: one id of its own, or a range by newuidmap; cgroups where they are delegated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, ended

USER = 54_321
RANGE = 300_000
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def map_ids(boat: Dock, entries: Sequence[tuple[int, int, int]]) -> None:
    """The same for users and groups: (first id inside, first outside, how many)."""
    mapping = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in entries]
    boat.config["linux"]["uidMappings"] = boat.config["linux"]["gidMappings"] = mapping


@pytest.fixture
def boat() -> Iterator[Dock]:
    """A bundle of USER's in a directory that USER can reach. The runtime runs as USER, with USER's limits."""
    directory = Path(tempfile.mkdtemp(prefix="sampan-rootless-"))
    try:
        with dock(directory) as made:
            made.config["linux"].pop("cgroupsPath")
            namespaces = made.config["linux"]["namespaces"]
            namespaces[:] = [entry for entry in namespaces if entry["type"] != "network"] + [{"type": "user"}]
            made.config["mounts"] = [mount for mount in made.config["mounts"] if mount["type"] != "sysfs"]
            for mount in made.config["mounts"]:
                if "options" in mount:  # gid 5 is not one of ours
                    mount["options"] = [option for option in mount["options"] if option != "gid=5"]
            made.config["linux"]["resources"] = {}
            map_ids(made, [(0, USER, 1)])
            made.write()
            subprocess.run(["chown", "-R", f"{USER}:{USER}", str(directory)], check=True)
            made.program = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *made.program)
            made.env = {"XDG_RUNTIME_DIR": str(directory), "HOME": str(directory)}
            yield made
    finally:
        shutil.rmtree(directory)


def test_root_inside_is_the_user_outside(boat: Dock) -> None:
    boat.create("sleep", "1000")
    boat.ok("start", boat.name)
    pid = boat.pid()
    assert os.stat(f"/proc/{pid}").st_uid == USER
    assert boat.exec("sh", "-c", "id -u; id -g; hostname").stdout == "0\n0\nboat\n"
    assert Path(f"/proc/{pid}/setgroups").read_text() == "deny\n"
    boat.ok("kill", boat.name, "KILL")


def test_without_a_cgroup_it_runs_as_quietly_as_under_runc(boat: Dock) -> None:
    """--debug says that there is none, and what to do."""
    done = boat.run("true")
    assert (done.returncode, done.stderr) == (0, "")
    boat.program = (*boat.program, "--debug")
    done = boat.run("true")
    assert done.returncode == 0 and "no cgroup was made" in done.stderr and "delegated" in done.stderr


def test_everybody_is_sent_a_signal_though_nobody_is_left(boat: Dock) -> None:
    """Without a cgroup, too: as with an empty one, and as under runc."""
    boat.create("sleep", "1000")
    boat.ok("start", boat.name)
    pid = boat.pid()
    boat.ok("kill", boat.name, "KILL")
    ended(pid)
    boat.ok("kill", "--all", boat.name, "TERM")
    assert "container not running" in boat.call("kill", boat.name, "TERM").stderr


def test_devices_are_the_hosts_bound(boat: Dock) -> None:
    done = boat.run("sh", "-c", "echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; stat -c %t:%T /dev/full")
    assert done.stdout.split() == ["00", "00", "00", "00", "1:7"], done.stderr


def test_a_terminal_works(boat: Dock) -> None:
    boat.config["process"]["terminal"] = True
    boat.write()
    command = " ".join(boat.command("run", "--bundle", str(boat.directory), boat.name))
    script = f"script -qec '{command}' /dev/null"
    boat.config["process"]["args"] = ["tty"]
    boat.write()
    env = {**os.environ, **boat.env}
    done = subprocess.run(script, shell=True, capture_output=True, text=True, timeout=60, env=env)
    assert "/dev/pts/0" in done.stdout, done.stderr


def test_ids_that_are_not_the_users_are_refused_with_what_to_do(boat: Dock) -> None:
    map_ids(boat, [(0, USER, 1), (1, RANGE, 1000)])
    done = boat.run("true")
    assert done.returncode == 1
    assert "may not map" in done.stderr or "newuidmap" in done.stderr


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="needs newuidmap (package uidmap)")
def test_a_range_of_ids_by_newuidmap(boat: Dock, tmp_path: Path) -> None:
    """The host's /etc/subuid stays as it is: the runtime runs in a mount namespace with another one over it."""
    for name in ("subuid", "subgid"):
        (boat.directory / name).write_text(f"{USER}:{RANGE}:65536\n")
    passwd = boat.directory / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + f"boatman:x:{USER}:{USER}::/:/bin/sh\n")
    covers = " && ".join(f"mount --bind {boat.directory}/{name} /etc/{name}" for name in ("subuid", "subgid", "passwd"))
    for name in ("subuid", "subgid"):
        if not Path(f"/etc/{name}").exists():
            pytest.skip(f"the host has no /etc/{name} to cover")
    map_ids(boat, [(0, USER, 1), (1, RANGE, 65_535)])
    boat.program = ("unshare", "--mount", "sh", "-c", f'{covers} && exec "$@"', "sh", *boat.program)
    done = boat.run("sh", "-c", "cat /proc/self/uid_map; touch /tmp/f; chown 5:6 /tmp/f; stat -c %u:%g /tmp/f")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", str(USER), "1", "1", str(RANGE), "65535", "5:6"]
    assert os.stat(boat.root / "tmp" / "f").st_uid == RANGE + 4


def test_state_lies_in_the_users_runtime_directory(boat: Dock) -> None:
    boat.config["process"]["args"] = ["sleep", "1000"]
    boat.write()
    with (boat.directory / "out").open("w") as out:
        command = [*boat.program, "create", "--bundle", str(boat.directory), boat.name]
        subprocess.run(command, check=True, stdout=out, stderr=out, env={**os.environ, **boat.env}, timeout=60)
    found = json.loads(subprocess.run(
        [*boat.program, "list", "--format", "json"], check=True, capture_output=True, env={**os.environ, **boat.env},
    ).stdout)
    assert [entry["id"] for entry in found] == [boat.name]
    assert (boat.directory / "sampan-runtime" / boat.name).is_dir()
    subprocess.run([*boat.program, "delete", "--force", boat.name], check=True, env={**os.environ, **boat.env})
