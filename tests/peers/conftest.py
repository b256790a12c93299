"""A directory and a bundle for each comparison."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.bundle import Bundle


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that users of user namespaces get to; pytest's own are for their owner alone. With a mount of its own: where
    the host's root becomes unbindable, runc could not bind a bundle that lies in it."""
    with tempfile.TemporaryDirectory(prefix="sampan-view-") as name:
        Path(name).chmod(0o755)
        subprocess.run(["mount", "--bind", name, name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


@pytest.fixture
def bundle(directory: Path) -> Bundle:
    return Bundle(directory / "bundle")
