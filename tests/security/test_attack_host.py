"""Attacks of an ordinary user of the host, beside a runtime that root runs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

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
