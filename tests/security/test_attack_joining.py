"""Attacks from inside on the words between the runtime and a process that joins the container (CVE-2016-9962)."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended, one_clear_line

from sampan.engine.spec.seccomp import default_policy
from sampan.lean.structs import encode
from sampan.linux import capability, security

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


LIES = (
    '{"born":VICTIM}', '{"born":VICTIM,"ready":"{}"}', '{"born":"x"}', '{"error":7}', '{"trampoline":"x"}',
    '{"ready":7}', '{"warnings":7}', '{"seccomp":"x"}', '{"seccomp":3}', '{}', "[]", "7", "no JSON",
)


@pytest.mark.parametrize("lie", LIES)
def test_what_who_may_trace_says_for_what_joins_makes_no_sense(boat: Dock, thief: Path, lie: str) -> None:
    """It may be able to make the exec fail: its own container's; with an error as any other."""
    watch(boat, thief, lie.replace("VICTIM", str(os.getpid())), ("CAP_SYS_PTRACE",))
    for _ in range(2):
        done = boat.exec("true")
        if done.returncode != 0:
            one_clear_line(done.stderr)
    (boat.root / "stop").touch()


def watch(boat: Dock, thief: Path, lie: str, more: tuple[str, ...]) -> int:
    """Start a container with more capabilities whose process 1 is the thief's parent."""
    for names in boat.config["process"]["capabilities"].values():
        names += more
    (boat.root / "thief").write_bytes(thief.read_bytes())
    (boat.root / "thief").chmod(0o755)
    return boat.launch("sh", "-c", f"/thief '{lie}' > /found 2>&1; exit 0")


@pytest.mark.parametrize("more", [(), ("CAP_SYS_PTRACE",)])
def test_cve_2016_9962_nobody_inside_speaks_for_what_joins(
    boat: Dock, thief: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """Who gets hold of the socket of what joins could name any process of the host as the container's: the pid file's
    reader would kill it. Without the right to trace nobody does; with it nothing is believed.
    """
    victim = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    try:
        pid = watch(boat, thief, json.dumps({"born": victim.pid, "ready": "{}"}), more)
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


WATCH = "echo x > /ready; while [ ! -e /stop ]; do grep -h CapPrm /proc/[0-9]*/status >> /found 2>/dev/null; done"


def launch_watch(boat: Dock, script: str) -> int:
    """The pid of a container's process 1, once it watches."""
    os.mkfifo(boat.root / "ready")
    ready = os.open(boat.root / "ready", os.O_RDONLY | os.O_NONBLOCK)
    try:
        pid = boat.launch("sh", "-c", script)
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        assert poll.poll(1000 * PATIENCE)
    finally:
        os.close(ready)
    return pid


FILTERS: dict[str, object] = {
    "none": None,
    "default": default_policy(frozenset({"CAP_SYS_PTRACE"}), os.uname().machine, (6, 1)),
}


@pytest.mark.parametrize(("no_new_privileges", "policy", "options"), [
    (True, "none", []), (False, "none", ["--user", "1000:1000"]), (False, "default", []),
    (True, "default", ["--user", "1000:1000"]),
])
def test_cve_2016_9962_what_joins_is_never_more_powerful_than_the_container(
    boat: Dock, no_new_privileges: bool, policy: str, options: list[str]
) -> None:
    """With CAP_SYS_PTRACE one inside can do with any process that he sees what that one may: load a module, say."""
    process = boat.config["process"]
    for names in process["capabilities"].values():
        names.append("CAP_SYS_PTRACE")
    process["noNewPrivileges"] = no_new_privileges
    if FILTERS[policy] is not None:
        boat.config["linux"]["seccomp"] = json.loads(encode(FILTERS[policy]))
    pid = launch_watch(boat, f"{WATCH}; exit 0")
    for number in range(4):
        done = boat.exec("true", options=options)
        assert done.returncode == 0, (number, done.stderr)
    (boat.root / "stop").touch()
    ended(pid)
    own = capability.to_mask(process["capabilities"]["permitted"])
    seen = {int(line.split()[1], 16) for line in (boat.root / "found").read_text().splitlines()}
    assert own in seen and [hex(mask) for mask in seen if mask & ~own] == []


@pytest.mark.parametrize("refused", ["setsid", "clone", "sendmsg", "exit_group"])
def test_a_filter_that_forbids_the_birth_of_what_joins_does_not_forbid_exec(boat: Dock, refused: str) -> None:
    """Then it is loaded by the one who is born, as runc has it."""
    boat.config["process"]["noNewPrivileges"] = False
    boat.launch("sleep", "1000")
    file = boat.states / boat.name / "config.json"  # the program of create would not come so far either
    spec = json.loads(file.read_text())
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [refused], "action": "SCMP_ACT_ERRNO"}]
    }
    file.write_text(json.dumps(spec))
    assert boat.exec("grep", "Seccomp:", "/proc/self/status").stdout.split() == ["Seccomp:", "2"]


def test_cve_2021_3602_what_joins_shows_no_environment_of_the_host(boat: Dock) -> None:
    """To who may look: an engine's environment may hold the password of a registry's proxy."""
    for names in boat.config["process"]["capabilities"].values():
        names.append("CAP_SYS_PTRACE")
    boat.env["OF_THE_HOST"] = "hunter2"
    look = WATCH.replace("grep -h CapPrm /proc/[0-9]*/status", "cat /proc/[0-9]*/environ")
    pid = launch_watch(boat, f"{look}; exit 0")
    for _ in range(4):
        assert boat.exec("true").returncode == 0
    (boat.root / "stop").touch()
    ended(pid)
    seen = (boat.root / "found").read_bytes()
    assert b"PATH=/bin" in seen and b"hunter2" not in seen


@pytest.mark.skipif(
    not security.apparmor_enabled() or shutil.which("apparmor_parser") is None, reason="this host has no AppArmor"
)
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_the_profile_of_an_exec_is_that_of_who_is_born(boat: Dock, no_new_privileges: bool) -> None:
    """It is set by the one who joins, and entered by the execve of another."""
    name = f"sampan-test-{os.getpid()}"
    profile = f"profile {name} flags=(attach_disconnected) {{ file, capability, signal, ptrace, unix, mount, }}"
    subprocess.run(["apparmor_parser", "-K", "-r"], input=profile, text=True, check=True)
    try:
        boat.config["process"]["noNewPrivileges"] = no_new_privileges
        boat.launch("sleep", "1000")
        seen = boat.exec("cat", "/proc/self/attr/current", options=["--apparmor", name])
        assert seen.stdout.strip() == f"{name} (enforce)", seen.stderr
        boat.delete()
    finally:
        subprocess.run(["apparmor_parser", "-R"], input=profile, text=True, check=True)
