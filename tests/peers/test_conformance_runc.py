"""runc's own tests pass with sampan-runtime in its place: scripts/conformance runc, a test for each of their files."""

from __future__ import annotations

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
LEFT_OUT = ("checkpoint.bats", "mounts_sshfs.bats", "spec.bats", "events.bats", "seccomp-notify.bats", "update.bats")
"""Nothing in them runs here, or they take long: `scripts/conformance runc` runs them."""
ROOTLESS = ("cgroups.bats", "dev.bats", "kill.bats", "mounts.bats")
"""Where ordinary users fare differently; all with `scripts/conformance runc --user 1000`."""


@cache
def modules() -> tuple[ModuleType, ModuleType]:
    """runc_suite and verdicts of scripts/conformance-suites/runc.d: its directory is not one to import from."""
    sys.path.append(str(SUITES / "runc.d"))
    try:
        import runc_suite
        import verdicts
    finally:
        sys.path.pop()
    return runc_suite, verdicts


@cache
def source() -> tuple[Path, str]:
    """Where Debian's source package lies, which scripts/setup --test fetches; and why it does not."""
    done = subprocess.run([SUITES / "source", "--cached", "runc"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()), done.stderr


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "file" in metafunc.fixturenames:
        found, trouble = source()
        names = sorted(path.name for path in (found / "tests/integration").glob("*.bats"))
        metafunc.parametrize("file", ["no source"] if trouble else [name for name in names if name not in LEFT_OUT])


@pytest.fixture(scope="module")
def suite() -> Iterator[Any]:
    found, trouble = source()
    if trouble:
        pytest.fail(trouble, pytrace=False)
    with modules()[0].Suite(found, runtimes.find("sampan-runtime"), patience=100) as made:
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_of_runc(suite: Any, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    judge(suite, file, capsys)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("name", ROOTLESS)
def test_of_runc_rootless(suite: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    suite.user = 1000
    try:
        judge(suite, name, capsys)
    finally:
        suite.user = 0


def judge(suite: Any, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = modules()[1].Report(suite, listed=True)
    report.add(file, suite.run(file))
    report.close()
    if not report.good:
        pytest.fail(capsys.readouterr().out, pytrace=False)
