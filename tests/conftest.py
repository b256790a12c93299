"""Tests run in a host of their own (sandbox.py), and none leaves anything behind (leaks.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import leaks
import sandbox


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if sandbox.wanted() and not config.option.collectonly and not config.option.help:
        sandbox.enter(keep=[config.rootpath, config.invocation_params.dir])


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
