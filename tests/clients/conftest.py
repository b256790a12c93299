"""What most of these tests begin with: an engine for the module, and no containers of the test before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import engine_fixture


@pytest.fixture(scope="module")
def engine() -> Iterator[engine_fixture.Engine]:
    with engine_fixture.engine() as made:
        yield made


@pytest.fixture
def tidy(engine: engine_fixture.Engine) -> Iterator[None]:
    """For a module's `usefixtures`: each test leaves no container."""
    yield
    engine.remove_containers()
