"""os.environ of a packed program: the same as everywhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src"
LEND = """
sys.path.insert(0, sys.argv[1])
from sampan.lean import mappings
sys.modules["_collections_abc"] = mappings
import os
del sys.modules["_collections_abc"]
"""
USE = """
import os
e = os.environ
said = [e.get("A"), e.get("NONE"), e.get("NONE", 3), "A" in e, "NONE" in e]
said += [sorted(e), sorted(e.keys()), sorted(e.items())]
e["C"] = "3"
e.update({"D": "4"}, E="5")
said += [sorted(e.values()), e.pop("C"), e.pop("C", None), e.setdefault("A", "x"), e.setdefault("F", "6")]
said += [e.copy(), len(e)]
del e["A"]
try:
    e["A"]
except KeyError as error:
    said.append(repr(error))
try:
    e.pop("A")
except KeyError as error:
    said.append(repr(error))
said += [dict(e), {**e}, (e | {"X": "y"})["X"], os.getenv("B"), os.fsencode("é")]
import pathlib, collections.abc, subprocess
said += [isinstance(pathlib.Path("/"), os.PathLike), isinstance("/", os.PathLike), os.fspath(pathlib.Path("/a"))]
said += [subprocess.run(["/usr/bin/env"], env=e, capture_output=True).stdout, collections.abc.Mapping.__module__]
print(said)
"""


def says(script: str) -> str:
    command = [sys.executable, "-IS", "-c", "import sys\n" + script + USE, str(SOURCES)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={"A": "1", "B": "2"}).stdout


def test_it_is_the_same() -> None:
    assert says(LEND) == says("")
