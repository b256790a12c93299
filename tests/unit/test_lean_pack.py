"""The pack of the cold runtime's modules: made by itself, never believed when a source or the pack has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LAUNCHER = (CHECKOUT / "bin" / "sampan-runtime").read_text()
PYTHON = os.path.realpath(sys.executable)
PROBE = """
import os, sys

def executed():
    return {name for name, module in sys.modules.items() if type(module).__name__ == "Waiting"}

def main():
    from sampan.runtime.lifecycle import create, stage
    from sampan.linux import cgroup
    way = "pack" if executed() else "sources"
    if "child" in sys.argv:
        create.clone.clone3  # with ctypes, as before any clone
        from sampan.lean import imports
        pid = os.fork()
        if pid == 0:
            imports.without_files()
            os.chroot("/mnt")
            print(way, stage.plan.make.__name__, stage.attributes.check.__name__, len(sys.meta_path))
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        return
    waits = "sampan.runtime.lifecycle.create" in executed()
    print(way, waits, create.__file__, getattr(create, "ADDED", ""), create.create.__module__, cgroup.__path__,
          cgroup.detect.__module__, create.__package__, "sampan.runtime.plan" in executed())
"""

pytestmark = pytest.mark.skipif(
    not PYTHON.startswith("/usr/bin/python3."), reason="packs are for the interpreters of the distribution"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An installation of its own, whose launcher starts a probe instead of the runtime."""
    packages = tmp_path / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    shutil.copytree(CHECKOUT / "src" / "sampan", packages / "sampan", ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "sampan" / "probe.py").write_text(PROBE)
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(PYTHON)
    program = tmp_path / "bin" / "sampan-runtime"
    program.write_text(LAUNCHER.replace('PROGRAM = f"{COMMANDS}.main"', 'PROGRAM = "sampan.probe"'))
    program.chmod(0o755)
    return tmp_path


def probe(place: Path, *arguments: str, before: tuple[str, ...] = ()) -> list[str]:
    """What the probe says: [from where, whether create was still to be executed, its file, its ADDED, …]"""
    command = [*before, str(place / "bin" / "sampan-runtime"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split(" ")


def source(place: Path, name: str) -> Path:
    (found,) = place.glob(f"lib/*/site-packages/sampan/{name}")
    return found


def test_it_is_made_and_used(place: Path) -> None:
    """The same modules, in the same state, as in the usual way; executed when they are wanted."""
    first, second, third = probe(place), probe(place), probe(place)
    assert first[:3] == ["sources", "False", str(source(place, "runtime/lifecycle/create.py"))]
    assert second[:2] == ["pack", "True"]
    assert second[2:-1] == first[2:-1]
    assert (first[-1], second[-1]) == ("False\n", "True\n")
    assert second == third


@pytest.mark.parametrize("changed", ["runtime/lifecycle/create.py", "lean/pack.py", "runtime/__init__.py"])
def test_a_changed_source_is_imported_as_it_is_now(place: Path, changed: str) -> None:
    probe(place)
    for name in {changed, "runtime/lifecycle/create.py"}:
        with source(place, name).open("a") as file:
            file.write("\nADDED = 'added'\n")
    assert probe(place)[0::3][:2] == ["sources", "added"]
    assert not list((place / "bin" / "__pycache__").iterdir())
    assert probe(place)[3] == "added"  # makes it anew
    assert probe(place)[0::3][:2] == ["pack", "added"]


def test_a_source_that_is_gone_is_not_believed(place: Path) -> None:
    probe(place)
    source(place, "runtime/labels.py").unlink()
    done = subprocess.run([place / "bin" / "sampan-runtime"], capture_output=True, text=True)
    assert done.returncode == 1 and "labels" in done.stderr


def test_with_debug_it_is_left_alone(place: Path) -> None:
    probe(place)
    assert probe(place, "--debug")[0] == "sources"
    assert probe(place)[0] == "pack"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs chroot")
def test_a_new_process_executes_what_it_needs_where_no_file_can_be_found(place: Path) -> None:
    probe(place)
    assert probe(place, "child") == ["pack", "make", "check", "2\n"]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs a user who may not write")
def test_without_the_right_to_write_it_does_without(place: Path) -> None:
    for path in (place, *place.parents):
        if path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    before = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups") if os.geteuid() == 0 else ()
    assert probe(place, before=before)[0] == "sources"
    assert not (place / "bin" / "__pycache__").exists()


def test_out_of_a_checkout_that_is_not_installed_it_says_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "sampan-runtime"
    program.write_text(LAUNCHER)
    program.chmod(0o755)
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    ran = subprocess.run([str(program), "list"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"sampan-runtime: {PYTHON}: sampan is not installed here: scripts/setup makes .venv/bin/sampan-runtime\n"
    )
