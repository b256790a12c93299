"""The lesson as a page to read: what was written on the screen, as Markdown, with the paragraphs that only it has."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

HEAD = """\
# A tour

The first lesson, written down as it ran: `LESSON_TOUR=docs/tour.md scripts/lesson` makes this page anew. Run
`scripts/lesson` to see it on your own machine; every ✓ is checked there.
"""


def text(record: Iterable[tuple[str, str]]) -> str:
    parts: list[str] = [HEAD]
    block: list[str] = []
    claims: list[str] = []

    def flush() -> None:
        if block:
            parts.append("```console\n" + "\n".join(block) + "\n```\n")
        if claims:
            parts.append("\n".join(claims) + "\n")
        block.clear()
        claims.clear()

    for kind, said in record:
        if kind == "output":
            block.append(said)
        elif kind == "claim":
            claims.append(_wrapped(f"✓ {said}", "- ", "  "))
        elif kind == "wrong":
            claims.append(_wrapped(f"✗ {said}", "- ", "  "))
        else:
            flush()
            if kind == "command":
                first, *rest = said.split("\n")
                block += [f"$ {first}", *(f"> {line}" for line in rest)]
            elif kind == "chapter":
                parts.append(f"## {said}\n")
            elif kind in ("says", "more") and said:
                parts += [_wrapped(paragraph) + "\n" for paragraph in re.split(r"\n\n+", said.strip())]
    flush()
    return "\n".join(parts)


def _wrapped(said: str, first: str = "", rest: str = "") -> str:
    return textwrap.fill(" ".join(said.split()), 110, initial_indent=first, subsequent_indent=rest,
                         break_long_words=False, break_on_hyphens=False)
