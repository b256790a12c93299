"""Write docs/reference.md from the commands' own help: `.venv/bin/python scripts/reference.py`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from sampan.cli.catalog import COMMON, GROUPED, INSIGHT, OTHERS, module_of
from sampan.cli.main import main

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
HEAD = """\
# Reference

Every command with its options, as `sampan COMMAND --help` prints it. Names and meanings are Docker's where Docker has
them. This page is made by `scripts/reference.py`; a test compares it with the commands.
"""


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, once for each file behind them: `sampan ps`, not `sampan container ls` too."""
    seen = set()
    words = [(name,) for table in (COMMON, INSIGHT, OTHERS) for name in sorted(table)]
    words += [(group, name) for group in sorted(GROUPED) for name in GROUPED[group]]
    for one in words:
        module, _ = module_of(list(one))
        if module not in seen:
            seen.add(module)
            yield one


def help_of(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = main([*words, "--help"])
    if status != 0:
        raise RuntimeError(f"sampan {' '.join(words)} --help: status {status}")
    return output.getvalue().rstrip()


def text() -> str:
    parts = [HEAD, f"```\n{help_of()}\n```\n"]
    for words in commands():
        parts.append(f"## sampan {' '.join(words)}\n\n```\n{help_of(*words)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    REFERENCE.write_text(text())
