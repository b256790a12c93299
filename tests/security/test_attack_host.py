"""Attacks of an ordinary user of the host, beside a runtime that root runs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.forked import in_child
from tests.runtime_fixture import Dock, dock, one_clear_line

from sampan.linux import keyring, process
from sampan.runtime.keyrings import JoinSessionKeyring
from sampan.runtime.operation import Stage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CHECKOUT = Path(__file__).parents[2]
PYTHON = os.path.realpath(sys.executable)


@pytest.mark.skipif(not PYTHON.startswith("/usr/bin/python3."), reason="packs are for the distribution's interpreters")
def test_nobody_else_may_write_the_code_that_the_next_call_executes(tmp_path: Path) -> None:
    """Engines start runtimes with umask 0; the first call writes the pack, and Python its own files."""
    packages = tmp_path / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    shutil.copytree(CHECKOUT / "src/sampan", packages / "sampan", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(PYTHON)
    program = shutil.copy(CHECKOUT / "bin/sampan-runtime", tmp_path / "bin")
    for _ in range(2):
        done = subprocess.run([program, "--version"], umask=0, check=True, capture_output=True, text=True)
        assert "sampan-runtime version" in done.stdout
    assert list((tmp_path / "bin/__pycache__").glob("*.pyc")) != []
    everything = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    assert [path for path in everything if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)] == []


def test_a_session_keyring_of_another_user_is_not_joined() -> None:
    """Keyrings are found by name: one called _ses.ID, made before by any user, would hold the container's keys."""
    container = f"keyring-attack-{os.getpid()}"

    def hold(told: int, until: int) -> object:
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        keyring.set_permissions(keyring.join_session(f"_ses.{container}"), 0x3F3F3F3F)  # everybody may do everything
        os.write(told, b"made")
        return os.read(until, 1).decode()  # the kernel forgets what nobody has

    def join(told: int) -> object:
        if os.read(told, 4) != b"made":
            return []
        stage = Stage()
        JoinSessionKeyring(container).apply(stage)
        return [keyring.describe(keyring.session())[0], stage.warnings]

    (told, tells), (until, lets_go) = os.pipe(), os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(lets_go)
        try:
            hold(tells, until)
        finally:
            os._exit(0)
    os.close(tells)
    seen = in_child(lambda: join(told))
    for fd in (told, until, lets_go):
        os.close(fd)
    os.waitpid(holder, 0)
    if seen == []:
        pytest.skip("no user may make keyrings here")
    assert seen == [0, [f"user 1000 has a keyring _ses.{container}: the container got one without a name"]]


def as_user(act: Callable[[], object]) -> None:
    def acts() -> object:
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        act()
        return "done"

    assert in_child(acts) == "done"


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    """Its states lie where everybody may make files, as in /tmp."""
    with dock(tmp_path) as made:
        for parent in (tmp_path, *list(tmp_path.parents)[:2]):
            parent.chmod(0o755)
        made.states.mkdir()
        made.states.chmod(0o1777)
        yield made


def test_a_container_that_another_user_wrote_down_is_none(boat: Dock, tmp_path: Path) -> None:
    """Root would kill the process it names, and run its hooks."""
    victim = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    boat.config["hooks"] = {"poststop": [{"path": "/usr/bin/touch", "args": ["touch", str(tmp_path / "touched")]}]}
    record = {
        "id": "fake", "bundle": "/", "rootfs": "/", "created": "", "pid": victim.pid,
        "startTime": process.stat(victim.pid).start_time,
    }

    def write() -> None:
        place = boat.states / "fake"
        place.mkdir(mode=0o755)
        (place / "state.json").write_text(json.dumps(record))
        (place / "config.json").write_text(json.dumps(boat.config))

    as_user(write)
    try:
        for command in (["kill", "fake", "KILL"], ["kill", "--all", "fake", "KILL"], ["delete", "--force", "fake"]):
            done = boat.call(*command)
            assert done.returncode == 1 and "belongs to user 1000" in one_clear_line(done.stderr)
        assert boat.call("state", "fake").returncode == 1
        assert json.loads(boat.ok("list", "--format", "json")) == []
        assert victim.poll() is None and not (tmp_path / "touched").exists()
    finally:
        victim.kill()
        victim.wait()
        shutil.rmtree(boat.states / "fake")


def test_filters_that_another_user_keeps_ready_are_not_loaded(boat: Dock, tmp_path: Path) -> None:
    """Nor is a directory changed that he points to."""
    boat.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]
    }
    (tmp_path / "victim").mkdir(mode=0o755)
    for make in (lambda: (boat.states / ".seccomp").symlink_to(tmp_path / "victim"), (boat.states / ".seccomp").mkdir):
        as_user(make)
        done = boat.run("true")
        assert done.returncode == 1 and "that we alone may write" in one_clear_line(done.stderr)
        remove = os.unlink if (boat.states / ".seccomp").is_symlink() else os.rmdir
        remove(boat.states / ".seccomp")
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o755 and os.listdir(tmp_path / "victim") == []


def test_the_state_directory_is_nobody_elses_whatever_the_umask(tmp_path: Path) -> None:
    """A directory above it that others may write is theirs to replace."""
    with dock(tmp_path) as boat:
        boat.write()
        states = tmp_path / "a" / "b" / "c"
        arguments = ["--root", str(states), "run", "--bundle", str(boat.directory), boat.name]
        assert subprocess.run([*boat.program, *arguments], umask=0, check=False).returncode == 0
        for path in (states, states.parent, states.parent.parent):
            assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
