"""Printing insight's findings: a mark, a name, what was found, and what to do about it."""

from __future__ import annotations

import os
import shutil
import textwrap

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from sampan.insight.finding import Finding

MARKS = {"ok": "✓", "limited": "!", "missing": "✗"}
COLOURS = {"ok": "\033[32m", "limited": "\033[33m", "missing": "\033[31m"}
BOLD, DIM, RESET = "\033[1m", "\033[2m", "\033[0m"


def show_findings(findings: list[Finding]) -> None:
    """Group by group. Colours on a terminal only (and not with NO_COLOR)."""
    colour = os.isatty(1) and not os.environ.get("NO_COLOR")
    width = max((len(finding.name) for finding in findings), default=0)
    group = ""
    for finding in findings:
        if finding.group != group:
            print(("\n" if group else "") + _paint(finding.group, BOLD, colour))
            group = finding.group
        mark = _paint(MARKS[finding.level], COLOURS[finding.level], colour)
        print(f"  {mark} {finding.name.ljust(width)}  {finding.value}")
        for text, lead in ((finding.meaning, "  "), (finding.remedy, "→ ")):
            for line in _wrapped(text, lead, width + 6):
                print(_paint(line, DIM, colour))


def _wrapped(text: str, lead: str, indent: int) -> list[str]:
    if not text:
        return []
    width = max(min(shutil.get_terminal_size().columns, 120), indent + 40)
    return textwrap.wrap(
        text, width, initial_indent=" " * indent + lead, subsequent_indent=" " * (indent + 2), break_long_words=False,
        break_on_hyphens=False,
    )


def _paint(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{RESET}" if colour else text
