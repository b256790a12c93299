"""A full disk while images are made: one clear sentence, nothing half-made stays, and the engine goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import Engine
from engine_fixture import engine as new_engine

SIZE = 24 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Engine]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], check=True)
    try:
        with new_engine(data_root=disk) as engine:
            yield engine
    finally:
        subprocess.run(["umount", disk], check=True)


def _used(engine: Engine) -> int:
    found = os.statvfs(engine.data_root)
    return (found.f_blocks - found.f_bavail) * found.f_frsize


def _large(path: Path) -> Path:
    """A file that does not compress and does not fit."""
    path.write_bytes(os.urandom(SIZE))
    return path


def test_import(small: Engine, tmp_path: Path) -> None:
    before = _used(small)
    subprocess.run(["tar", "-cf", tmp_path / "large.tar", "-C", _large(tmp_path / "large").parent, "large"], check=True)
    failed = small.docker("import", str(tmp_path / "large.tar"), "large", check=False)
    assert failed.returncode == 1 and failed.stderr.startswith("Error response from daemon: no space left on device")
    assert len(failed.stderr.strip().splitlines()) == 1
    assert _used(small) <= before + (1 << 20)
    assert small.docker("images", "-q", "large").stdout == ""
    assert small.docker("run", "--rm", "busybox", "echo", "alive").stdout == "alive\n"


@pytest.mark.parametrize("step", ["COPY large /", "RUN cat /dev/urandom > /large"])
def test_build(small: Engine, tmp_path: Path, step: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    if step.startswith("COPY"):
        _large(context / "large")
    (context / "Dockerfile").write_text(f"FROM busybox\n{step}\n")
    before = _used(small)
    failed = small.docker("build", "-t", "large", str(context), check=False)
    assert failed.returncode == 1 and "o space left on device" in failed.stdout + failed.stderr
    assert _used(small) <= before + (1 << 20)
    assert small.docker("images", "-q", "large").stdout == ""
    assert small.docker("run", "--rm", "busybox", "echo", "alive").stdout == "alive\n"
