"""Attacks of an ordinary user of the host, beside a runtime that root runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.forked import in_child

from sampan.linux import keyring
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
