"""A directory and a bundle for each comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.bundle import Bundle


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that users of user namespaces get to; pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory(prefix="sampan-view-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def bundle(directory: Path) -> Bundle:
    return Bundle(directory / "bundle")
