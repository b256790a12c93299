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

def main():
    if sys.argv[1:] == ["child"]:
        from sampan.lean import pack
        from sampan.runtime.lifecycle import create
        if not pack.vouch("sampan.runtime.lifecycle.stage"):  # a pack has no asserts
            sys.exit("not packed")
        for name in sys.meta_path[0].libraries:
            __import__(name)  # the interpreter's own, which everybody may read
        pid = os.fork()
        if pid == 0:
            os.chroot("/var/empty" if os.path.isdir("/var/empty") else "/mnt")
            import sampan.runtime.lifecycle.stage as stage
            print(type(stage.__spec__.loader).__name__, stage.plan.__package__, os.path.exists("/usr"))
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        return
    from sampan.runtime.command import run
    from sampan.runtime.lifecycle import create
    from sampan.linux import cgroup
    print(type(create.__spec__.loader).__name__, create.__file__, getattr(create, "ADDED", ""), create.__spec__.parent,
          cgroup.__path__, run.create is create, sorted(name for name in sys.modules if name.startswith("sampan.")))
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
    """What the probe says: [loader, file of create, its ADDED, …]"""
    command = [*before, str(place / "bin" / "sampan-runtime"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split(" ")


def pack_of(place: Path) -> Path:
    (found,) = (place / "bin" / "__pycache__").iterdir()
    return found


def source(place: Path, name: str) -> Path:
    (found,) = place.glob(f"lib/*/site-packages/sampan/{name}")
    return found


def test_it_is_made_and_used(place: Path) -> None:
    """The same modules, in the same state, as in the usual way."""
    first, second, third = probe(place), probe(place), probe(place)
    assert (first[0], second[0]) == ("SourceFileLoader", "Pack")
    assert first[1] == str(source(place, "runtime/lifecycle/create.py"))
    assert second[1:7] == first[1:7]
    assert second == third
    assert "'sampan.runtime.lifecycle.stage'" not in str(second)


@pytest.mark.parametrize("changed", ["runtime/lifecycle/create.py", "lean/pack.py", "runtime/__init__.py"])
def test_a_changed_source_is_imported_as_it_is_now(place: Path, changed: str) -> None:
    probe(place)
    with source(place, changed).open("a") as file:
        file.write("\nADDED = 'added'\n")
    with source(place, "runtime/lifecycle/create.py").open("a") as file:
        file.write("\nADDED = 'added'\n")
    assert probe(place)[0::2][:2] == ["SourceFileLoader", "added"]
    assert probe(place)[2] == "added"  # makes it anew
    assert probe(place)[0::2][:2] == ["Pack", "added"]


def test_a_module_of_a_group_that_has_changed_makes_the_group_the_usual_way(place: Path) -> None:
    probe(place)
    with source(place, "runtime/operation.py").open("a") as file:
        file.write("\nADDED = 'added'\n")
    assert probe(place)[0] == "Pack"  # by itself it has not changed
    assert not list((place / "bin" / "__pycache__").iterdir())


def test_with_debug_it_is_left_alone(place: Path) -> None:
    probe(place)
    assert probe(place, "--debug")[0] == "SourceFileLoader"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs chroot")
def test_a_new_process_imports_the_stage_where_no_file_can_be_found(place: Path) -> None:
    probe(place)
    assert probe(place, "child") == ["Pack", "sampan.runtime", "False\n"]


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs a user who may not write")
def test_without_the_right_to_write_it_does_without(place: Path) -> None:
    for path in (place, *place.parents):
        if path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    before = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups") if os.geteuid() == 0 else ()
    assert probe(place, before=before)[0] == "SourceFileLoader"
    assert not (place / "bin" / "__pycache__").exists()
