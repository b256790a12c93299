"""crun's own tests pass with sampan-runtime in its place: scripts/conformance crun, a test for each of theirs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from peers import runtimes

SUITES = Path(__file__).resolve().parents[2] / "scripts/conformance-suites"


@cache
def crun_suite() -> ModuleType:
    """scripts/conformance-suites/crun.d/suite.py: its directory is not one to import from."""
    directory = SUITES / "crun.d"
    sys.path.append(str(directory))
    try:
        specification = importlib.util.spec_from_file_location("crun_suite", directory / "suite.py")
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[module.__name__] = module
        specification.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(directory))


@cache
def source() -> tuple[Path, str]:
    """Where Debian's source package lies, which scripts/setup --test fetches; and why it does not."""
    done = subprocess.run([SUITES / "source", "--cached", "crun"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()), done.stderr


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        found, trouble = source()
        metafunc.parametrize("name", ["no source"] if trouble else [
            name for name in crun_suite().tests(found) if name not in crun_suite().listed(found)
        ])


@pytest.fixture(scope="module")
def suite() -> Iterator[Any]:
    found, trouble = source()
    if trouble:
        pytest.fail(trouble, pytrace=False)
    with crun_suite().Suite(found) as made:
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_of_crun(suite: Any, name: str, tmp_path: Path) -> None:
    result = suite.run(name, crun_suite().through_adapter(runtimes.find("sampan-runtime")))
    if result.skipped:
        pytest.skip("by the suite itself: not for this host")
    if not result.passed and not suite.run(name, runtimes.runtime("crun", tmp_path).command).passed:
        pytest.skip("crun fails here, too")
    assert result.passed, result.output


def test_what_is_listed_is_there(suite: Any) -> None:
    found, _ = source()
    assert set(crun_suite().listed(found)) <= set(suite.tests)
