"""The pack of the cold runtime's modules: made by itself, never believed when a source or the pack has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "sampan"
LOADERS = """
import sys
sys.path.insert(0, sys.argv[1])
from sampan.lean import pack
pack.install(pack.__file__.rpartition("/lean/")[0])
from sampan.runtime.lifecycle import create
print(type(create.__spec__.loader).__name__, create.__file__, getattr(create, "ADDED", ""))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "sampan", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def loaded(copy: Path) -> list[str]:
    """[loader of runtime.lifecycle.create, its file, its ADDED if any]"""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", LOADERS, str(copy)], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def pack_of(copy: Path) -> Path:
    (found,) = (copy / "sampan" / "__pycache__").glob("*.cold")
    return found


def test_it_is_made_and_used(copy: Path) -> None:
    expected = ["Pack", str(copy / "sampan/runtime/lifecycle/create.py")]
    assert loaded(copy) == ["SourceFileLoader", expected[1]]  # it was imported to be packed
    assert loaded(copy) == expected


def test_a_changed_source_is_imported_as_it_is_now(copy: Path) -> None:
    loaded(copy)
    with (copy / "sampan/runtime/lifecycle/create.py").open("a") as file:
        file.write("\nADDED = 'added'\n")
    assert loaded(copy)[0::2] == ["SourceFileLoader", "added"]
    loaded(copy)  # makes it anew
    assert loaded(copy)[0::2] == ["Pack", "added"]


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_pack_is_made_anew(copy: Path, damage: bytes | None) -> None:
    loaded(copy)
    pack = pack_of(copy)
    whole = pack.read_bytes()
    pack.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    loaded(copy)
    assert pack.read_bytes()[:12] == whole[:12]
    assert loaded(copy)[0] == "Pack"


def test_the_first_command_is_loaded_whole_and_at_once(copy: Path) -> None:
    """The same modules, in the same state, as one by one."""
    script = LOADERS.replace('"/lean/")[0])', '"/lean/")[0], "run")').replace("print(", "names = (")
    script += """
from sampan.runtime.command import main, run
from sampan.linux import cgroup
print(len([name for name in sys.modules if name.startswith("sampan.")]), sys.modules["sampan.runtime.plan"].__package__,
      cgroup.detect.__module__, cgroup.__path__, run.create is create, create.__spec__.name)
"""
    command = [sys.executable, "-IS", "-c", script, str(copy)]
    first, second, third = (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)
    )
    assert second == third and second[1:] == first[1:]
    assert int(second[0]) > 50


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="needs a user who may not write")
def test_without_the_right_to_write_it_does_without(copy: Path) -> None:
    for path in (copy, *copy.parents):
        if path.is_relative_to("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    command = [sys.executable, "-IS", "-c", LOADERS, str(copy)]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *command]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split()[0] == "SourceFileLoader"
    assert not list(copy.rglob("*.cold*"))
