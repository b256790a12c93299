"""An ordinary user under a real systemd with cgroup v2: skipped elsewhere (scripts/test-in-vm has it)."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests import cgroup_fixture

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.isdir("/run/systemd/system") or cgroup_fixture.host().mode != "v2",
    reason="needs root, systemd and cgroup v2",
)

SCOPE = """
import os, subprocess
from sampan.linux.cgroup import detect, stats, systemd
from sampan.oci.runtime import DeviceCgroup, Memory, Pids, Resources

host = detect()
with subprocess.Popen(["sleep", "1000"]) as child:
    limits = Resources(memory=Memory(limit=64 << 20), pids=Pids(limit=9), devices=[DeviceCgroup(allow=False)])
    group = systemd.create(host, ":sampan:rootless", child.pid, limits)
    try:
        above = f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service"
        assert group.path == f"{above}/user.slice/sampan-rootless.scope", group.path
        assert systemd.open(host, ":sampan:rootless", {}).paths() == group.paths()
        assert group.procs() == [child.pid]
        read = stats.read(group.paths())
        assert (read.memory.limit, read.pids.limit) == (64 << 20, 9)
        group.apply(Resources(pids=Pids(limit=7)))
        group.freeze()
        group.thaw()
    finally:
        group.remove()
    assert child.wait() == -9
    assert not group.exists()
"""

DELEGATED = """
import os, subprocess
from sampan.linux.cgroup import detect, stats
from sampan.oci.runtime import Memory, Pids, Resources
from sampan.runtime.lifecycle import cgroups

host = detect()
group = cgroups.create(host, "", "sampan-delegated", Resources(pids=Pids(limit=5)))
assert group is not None
try:
    limits = Resources(memory=Memory(limit=64 << 20), pids=Pids(limit=5))
    group.require(limits)
    assert group.apply(limits) == []
    with subprocess.Popen(["sleep", "1000"]) as child:
        group.add(child.pid)
        assert group.procs() == [child.pid]
        assert stats.read(group.paths()).pids.limit == 5
        group.kill_all()
        assert child.wait() == -9
finally:
    group.remove()
"""

REFUSED = """
from sampan.errors import Forbidden
from sampan.linux.cgroup import detect
from sampan.oci.runtime import Pids, Resources
from sampan.runtime.lifecycle import cgroups

host = detect()
assert cgroups.create(host, "", "sampan-refused", None) is None
try:
    cgroups.create(host, "", "sampan-refused", Resources(pids=Pids(limit=5)))
except Forbidden as error:
    assert "rootless needs no limits" in str(error)
else:
    raise AssertionError("made")
"""


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """One with a systemd of its own running."""
    found = [it for it in pwd.getpwall() if 1000 <= it.pw_uid < 60000]
    if not found or run(found[0], "import sampan").returncode:
        pytest.skip("needs an ordinary user who can read this checkout")
    unit = f"user@{found[0].pw_uid}.service"
    running = subprocess.run(["systemctl", "is-active", "--quiet", unit]).returncode == 0
    subprocess.run(["systemctl", "start", unit], check=True)
    yield found[0]
    if not running:
        subprocess.run(["systemctl", "stop", unit, f"user-{found[0].pw_uid}.slice"], check=True)


def run(user: pwd.struct_passwd, code: str, *prefix: str) -> subprocess.CompletedProcess[str]:
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}", "HOME": user.pw_dir, "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [*prefix, sys.executable, "-c", code], user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/",
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )


def test_a_scope_of_the_users_own_systemd(user: pwd.struct_passwd) -> None:
    done = run(user, SCOPE)
    assert done.returncode == 0, done.stdout


def test_a_group_below_what_was_delegated(user: pwd.struct_passwd) -> None:
    done = run(user, DELEGATED, "systemd-run", "--user", "--scope", "--quiet", "-p", "Delegate=yes")
    assert done.returncode == 0, done.stdout


def test_nothing_delegated_is_said_clearly(user: pwd.struct_passwd) -> None:
    done = run(user, REFUSED)
    assert done.returncode == 0, done.stdout
