"""Mounts of whole bundles, by the runtime's command."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_fixture import Dock, dock, map_ids, one_clear_line


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path / "boat") as made:
        yield made


def add(boat: Dock, destination: str, source: str, *options: str, kind: str = "bind", **more: Any) -> None:
    boat.config["mounts"].append(
        {"destination": destination, "type": kind, "source": source, "options": list(options), **more})


def said(boat: Dock, *args: str, options: tuple[str, ...] = ()) -> str:
    done = boat.run(*args, options=options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_source_relative_to_the_bundle_and_a_destination_relative_to_the_root(boat: Dock) -> None:
    (boat.directory / "volume").mkdir()
    (boat.directory / "volume/file").write_text("content")
    add(boat, "data/deep", "volume", "rbind", "ro")
    done = boat.run("sh", "-c", "cat /data/deep/file; touch /data/deep/x 2>/dev/null || echo no")
    assert (done.returncode, done.stdout) == (0, "contentno\n"), done.stderr
    words = "mount destination 'data/deep' is not absolute, as the spec asks: it is taken as '/data/deep'"
    assert f'level=warning msg="{words}"' in one_clear_line(done.stderr)


def test_an_id_mapped_volume_in_a_user_namespace(boat: Dock) -> None:
    volume = boat.directory / "volume"
    volume.mkdir(mode=0o700)  # closed to the container's root, but for the mapping
    (volume / "file").write_text("")
    os.chown(volume / "file", 5, 6)
    add(boat, "/mapped", "volume", "bind", "idmap")
    add(boat, "/plain", "volume", "bind")
    map_ids(boat)
    boat.directory.parent.chmod(0o700)  # nor may it pass to its own root file system
    script = "stat -c %u:%g /mapped/file /mapped; touch /mapped/new; stat -c %u /plain; ls /plain 2>&1"
    done = boat.run("sh", "-c", script)
    assert done.stdout.split()[:3] == ["5:6", "0:0", "65534"] and "ermission denied" in done.stdout
    assert (volume / "new").stat().st_uid == 0


def test_a_volume_below_a_closed_directory_in_a_user_namespace(boat: Dock) -> None:
    (boat.directory / "closed/volume").mkdir(parents=True)
    (boat.directory / "closed/volume/file").write_text("content")
    (boat.directory / "closed").chmod(0o700)
    add(boat, "/data", "closed/volume", "rbind")
    map_ids(boat)
    boat.directory.parent.chmod(0o700)  # nor may it pass to its own root file system
    assert said(boat, "cat", "/data/file") == "content"


def test_a_device_in_a_user_namespace_is_as_the_spec_has_it(boat: Dock) -> None:
    """Made by the runtime, also where it keeps its state on a file system without devices, as /run is. It is no peer of
    that one: what is mounted over the device inside stays there."""
    boat.config["linux"]["devices"] = [
        {"path": "/dev/deep/none", "type": "c", "major": 1, "minor": 3, "fileMode": 0o157, "uid": 10, "gid": 11}]
    boat.config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    map_ids(boat)
    script = "stat -c '%F %t:%T %a %u:%g' /dev/deep/none && echo x >/dev/deep/none && ls /dev/deep"
    script += "; grep -c ' /dev/deep/none .*shared:' /proc/self/mountinfo || true"
    boat.states.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev,mode=711", "states", boat.states], check=True)
    try:
        assert said(boat, "sh", "-c", script) == "character special file 1:3 157 10:11\nnone\n0\n"
        assert not (boat.states / boat.name).exists()
    finally:
        subprocess.run(["umount", boat.states], check=True)


def test_everything_of_a_terminalless_dev(boat: Dock) -> None:
    listing = said(boat, "ls", "/dev").split()
    assert {"null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm",
            "mqueue"} <= set(listing)
    assert "console" not in listing


@pytest.mark.parametrize("options", [(), ("--no-pivot",)])
def test_the_program_sees_its_own_mounts_alone(boat: Dock, options: tuple[str, ...]) -> None:
    add(boat, "/run", "run", "tmpcopyup", "size=1m", kind="tmpfs")
    (boat.root / "run").mkdir()
    (boat.root / "run/file").write_text("copied")
    boat.config["root"]["readonly"] = True
    out = said(boat, "sh", "-c", "cat /run/file; echo; touch /x 2>&1; cat /proc/self/mountinfo; ls /", options=options)
    lines = out.splitlines()
    assert lines[0] == "copied" and "Read-only" in lines[1]
    whole = [line for line in lines if re.search(r" / /\S* .* - proc ", line)]
    assert len(whole) == 1 and "etc" in lines and "usr" not in lines


@pytest.mark.parametrize("goal", ["/not/there", "../not/there", "../../../../not/there"])
def test_a_file_on_a_link_that_leads_nowhere(boat: Dock, goal: str) -> None:
    """As under runc and crun: made inside the root, where the link points to."""
    (boat.directory / "file").write_text("content")
    (boat.root / "etc").mkdir(exist_ok=True)
    (boat.root / "etc/link").symlink_to(goal)
    add(boat, "/etc/link", "file", "bind", "ro")
    assert said(boat, "sh", "-c", "cat /not/there /etc/link; ls -A /not") == "contentcontentthere\n"
    assert not os.path.lexists("/not") and not (boat.directory / "not").exists()


def test_a_working_directory_that_is_missing_below_a_read_only_root(boat: Dock) -> None:
    boat.config["root"]["readonly"] = True
    boat.config["process"]["cwd"] = "/new/one"
    assert said(boat, "sh", "-c", "pwd; stat -c '%a %u' . ..; touch x 2>/dev/null || echo no") == (
        "/new/one\n755 0\n755 0\nno\n")


def test_a_working_directory_that_cannot_be(boat: Dock) -> None:
    boat.config["process"]["cwd"] = "/bin/busybox/new"
    done = boat.run("true")
    assert done.returncode == 1
    assert one_clear_line(done.stderr).endswith('(\\"/bin/busybox/new\\") failed: not a directory"')


def test_the_error_names_the_mount(boat: Dock) -> None:
    add(boat, "/data", "missing", "bind")
    done = boat.run("true")
    assert done.returncode != 0
    line = one_clear_line(done.stderr)
    assert "/data" in line and "No such file or directory" in line and str(boat.directory / "missing") in line
    boat.config["mounts"][-1] = {"destination": "/proc/self", "type": "tmpfs", "source": "x"}
    assert "nothing may be mounted" in one_clear_line(boat.run("true").stderr)


def test_the_runtime_itself_in_a_user_namespace(boat: Dock) -> None:
    """As under a rootless engine: devices are bound, what is mounted is what the namespace owns."""
    boat.program = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", *boat.program)
    for entry in boat.config["mounts"]:
        if entry["destination"] == "/dev/pts":
            entry["options"].remove("gid=5")  # not mapped
    script = "stat -c %t:%T /dev/null /dev/zero; grep -c ' /dev/null ' /proc/self/mountinfo; cat /proc/self/uid_map"
    assert said(boat, "sh", "-c", script).split() == ["1:3", "1:5", "1", "0", "0", "1"]


def test_the_root_among_the_read_only_paths(boat: Dock) -> None:
    boat.config["linux"]["readonlyPaths"] = ["/proc/sys", "/.//"]
    boat.config["process"]["cwd"] = "/work"
    script = "pwd; touch /x 2>&1; touch /dev/shm/x && echo shm; (> /proc/sys/kernel/hostname) 2>/dev/null || echo sys"
    assert said(boat, "sh", "-c", script) == "/work\ntouch: /x: Read-only file system\nshm\nsys\n"


def test_recursive_options_have_the_last_word(boat: Dock) -> None:
    """As with runc and crun, which set them behind all others."""
    (boat.directory / "volume").mkdir()
    add(boat, "/one", "volume", "rbind", "rro", "rw")
    add(boat, "/two", "volume", "rbind", "noexec", "rexec")
    script = "grep -E ' /(one|two) ' /proc/self/mountinfo"
    one, two = said(boat, "sh", "-c", script).splitlines()
    assert "ro" in one.split()[5].split(",") and "noexec" not in two.split()[5].split(",")


@pytest.mark.parametrize("mode", [-1, 1 << 32])
def test_a_mode_that_is_none(boat: Dock, mode: int) -> None:
    boat.config["linux"]["devices"] = [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": mode}]
    assert f"fileMode {mode} is out of range" in one_clear_line(boat.run("true").stderr)


def test_a_plan_of_ten_thousand_operations(boat: Dock) -> None:
    """What was done is told to the runtime, for --debug: too long a tale is no reason not to start."""
    boat.config["linux"]["maskedPaths"] = [f"/nowhere/{number:05d}/{'x' * 100}" for number in range(10_000)]
    assert said(boat, "echo", "ran") == "ran\n"
