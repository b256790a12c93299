"""Write docs/reference.md and docs/runtime-reference.md from the commands' own help:
`.venv/bin/python scripts/reference.py`.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sampan.cli.catalog import COMMON, GROUPED, INSIGHT, OTHERS, module_of
from sampan.cli.main import main
from sampan.runtime.command.catalog import MODULES

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE, RUNTIME_REFERENCE = DOCS / "reference.md", DOCS / "runtime-reference.md"
RUNTIME_HEAD = """\
# sampan-runtime: reference

Every command with its options, as `sampan-runtime COMMAND --help` prints it; names and meanings are runc's.
[runtime.md](runtime.md) says what it is for. This page is made by `scripts/reference.py`; a test compares it with the
commands.
"""
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


def runtime_help(*words: str) -> str:
    program = [sys.executable, "-m", "sampan.runtime.command"]
    return subprocess.run([*program, *words, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip()


def runtime_text() -> str:
    parts = [RUNTIME_HEAD, f"```\n{runtime_help()}\n```\n"]
    parts += [f"## sampan-runtime {name}\n\n```\n{runtime_help(name)}\n```\n" for name in MODULES]
    return "\n".join(parts)


if __name__ == "__main__":
    REFERENCE.write_text(text())
    RUNTIME_REFERENCE.write_text(runtime_text())
