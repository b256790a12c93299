"""The watch itself: each kind of thing is seen when it is left, and what ends by itself is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import leaks
import sandbox

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices, mounts and cgroups")

CASES = {
    "links": ("ip link add leak0 type bridge", "ip link del leak0"),
    "nft_tables": ("nft add table ip leak", "nft delete table ip leak"),
    "mounts": ("mount -t tmpfs none /mnt", "umount /mnt"),
    "sysctls": ("sysctl -q net.ipv4.conf.all.route_localnet=1", "sysctl -q net.ipv4.conf.all.route_localnet=0"),
    "files": ("touch /run/sampan-leak", "rm /run/sampan-leak"),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_is_left_is_named(kind: str) -> None:
    make, remove = CASES[kind]
    watch = leaks.Watch()
    subprocess.run(make.split(), check=True)
    seen = watch.left(grace=0)
    subprocess.run(remove.split(), check=True)
    assert set(seen) == {kind}
    assert not watch.left(grace=0)


def test_a_cgroup_left_is_named() -> None:
    hierarchy = next(Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()
                     if " - cgroup" in line)
    watch = leaks.Watch()
    group = hierarchy / f"sampan-leak-{os.getpid()}"
    group.mkdir()
    seen = watch.left(grace=0)
    group.rmdir()
    assert seen == {"cgroups": frozenset([str(group)])}


@pytest.mark.skipif(not sandbox.inside(), reason="an orphan is ours to see only below our own init")
def test_an_orphan_in_its_own_session_is_named() -> None:
    watch = leaks.Watch()
    shell = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
    pid = int(subprocess.run(["sh", "-c", shell], env={}, check=True, capture_output=True).stdout)
    seen = watch.left(grace=0)
    os.kill(pid, signal.SIGKILL)
    assert [process.pid for process in seen["processes"]] == [pid]
    assert not watch.left()


def test_a_veth_that_ends_with_its_namespace_is_waited_for() -> None:
    name = f"leak{os.getpid()}"
    watch = leaks.Watch()
    veth = f"link add v{name} type veth peer name eth0 netns {name}"
    for command in (f"netns add {name}", veth, f"netns del {name}"):
        subprocess.run(["ip", *command.split()], check=True)
    assert not watch.left()
