"""Tests run in a host of their own (sandbox.py), and none leaves anything behind (leaks.py)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache

import msgspec  # noqa: F401 - sampan.lean.structs takes it where it is loaded: here always
import pytest

import leaks
import sandbox


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker_client(version): needs the docker command, that version or later")
    if sandbox.wanted() and not config.option.collectonly and not config.option.help:
        sandbox.enter(keep=[config.rootpath, config.invocation_params.dir])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.docker_client("28")`: what the test expects older docker commands say in other words."""
    for mark in item.iter_markers("docker_client"):
        version = _docker_client()
        if _numbers(version) < _numbers(mark.args[0]):
            pytest.skip(f"needs the docker command {mark.args[0]} or later, here is {version or 'none'}")


@cache
def _docker_client() -> str:
    """The version of the docker command on PATH, "" without one."""
    if shutil.which("docker") is None:
        return ""
    said = subprocess.run(["docker", "--version"], check=True, capture_output=True, text=True).stdout
    return said.split()[2].rstrip(",")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def pytest_report_header() -> str:
    return "host: " + ("of its own (tests/sandbox.py)" if sandbox.inside() else "as it is")


@pytest.fixture(scope="session", autouse=True)
def leaks_of_session() -> Iterator[list[leaks.Watch]]:
    yield from _watch("the run", [])


@pytest.fixture(scope="module", autouse=True)
def leaks_of_module(leaks_of_session: list[leaks.Watch]) -> Iterator[list[leaks.Watch]]:
    yield from _watch("the module's fixtures", leaks_of_session)


@pytest.fixture(autouse=True)
def leaks_of_test(leaks_of_module: list[leaks.Watch]) -> Iterator[None]:
    for _ in _watch("the test", leaks_of_module):
        yield


def _watch(who: str, outer: list[leaks.Watch]) -> Iterator[list[leaks.Watch]]:
    """Yields the watches that stand; fails when `who` left something, and says each thing once."""
    watch = leaks.Watch()
    yield [*outer, watch]
    if left := watch.left():
        for other in outer:
            other.forgive(left)
        pytest.fail(f"{who} left behind\n{leaks.describe(left)}", pytrace=False)
