"""docs/reference.md and docs/runtime-reference.md say what the commands say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def test_the_reference_is_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    spec = importlib.util.spec_from_file_location("reference", CHECKOUT / "scripts" / "reference.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    assert reference.REFERENCE.read_text() == reference.text(), "run scripts/reference.py"
    assert reference.RUNTIME_REFERENCE.read_text() == reference.runtime_text(), "run scripts/reference.py"
