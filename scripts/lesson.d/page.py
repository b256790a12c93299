"""What the reader sees: chapters, commands, their output, and after each the claim it proves."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time

MAX_WIDTH = 100
SHOWN_LINES = 12
"""Of one command's output; more is cut in the middle."""

COLOURS = {"title": "1;36", "command": "1", "output": "0", "true": "32", "false": "1;31", "note": "33"}


class Page:
    """Writes to stdout. Keeps the score: claims that failed, things this host cannot show."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty()
        self.width = min(MAX_WIDTH, shutil.get_terminal_size((MAX_WIDTH, 24)).columns)
        self.claims = 0
        self.failed: list[str] = []
        self.not_shown: list[str] = []
        self.record: list[tuple[str, str]] = []
        """All that was written, as (kind, text): what docs/tour.md is made of."""
        self._chapter = 0
        self._began = time.monotonic()
        self._status = False

    def title(self, text: str, says: str) -> None:
        self.record.append(("title", text))
        self._write("title", text)
        self.says(says)

    def chapter(self, text: str, says: str, more: str = "") -> None:
        """`more`: what only the tour says, where there is room."""
        self._chapter += 1
        self.record.append(("chapter", f"{self._chapter}. {text}"))
        heading = f"── {self._chapter}. {text} "
        self._write("title", "\n" + heading + "─" * max(0, self.width - len(heading)))
        self.says(says)
        self.record.append(("more", more))

    def pause(self, text: str) -> None:
        """A sentence between two steps."""
        sys.stdout.write("\n")
        self.says(text)

    def says(self, text: str) -> None:
        self.record.append(("says", text))
        for line in textwrap.wrap(text, self.width):
            self._write("", line)

    def command(self, text: str) -> None:
        self.record.append(("command", text))
        lines = text.split("\n")
        self._write("command", "\n" + "\n".join([f"$ {lines[0]}", *(f"  {line}" for line in lines[1:])]))

    def progress(self, line: str) -> None:
        """One line that the next one replaces; only on a terminal."""
        if self.colour:
            sys.stdout.write(f"\r\033[K\033[2m  {self._clip(line, 4)}\033[0m")
            sys.stdout.flush()
            self._status = True

    def output(self, text: str, shown: int = SHOWN_LINES) -> None:
        lines = text.rstrip("\n").split("\n") if text.strip() else []
        if len(lines) > shown:
            head = shown - shown // 3 - 1
            tail = shown - head - 1
            lines = [*lines[:head], f"… {len(lines) - head - tail} lines more", *lines[-tail:]]
        for line in self._wrapped_sentences(lines):
            self.record.append(("output", self._clip(line, 2).rstrip()))
            self._write("output", "  " + self._clip(line, 2))

    def claim(self, text: str, holds: bool, found: object = None) -> None:
        """What the step just shown proves. `found`: what was seen instead, said when it does not hold."""
        self.claims += 1
        self.record.append(("claim" if holds else "wrong", text))
        if holds:
            self._write("true", f"  ✓ {self._wrap(text)}")
        else:
            text = f"{text} (found: {' '.join(str(found).split())[-160:]})" if found is not None else text
            self.failed.append(f"{self._chapter}. {text}")
            self._write("false", f"  ✗ {self._wrap(text)}")

    def cannot_show(self, what: str, why: str) -> None:
        self.not_shown.append(f"{what}: {why}")
        self._write("note", f"  – {self._wrap(f'not shown on this host: {what}: {why}')}")

    def note(self, text: str) -> None:
        self._write("note", f"  · {self._wrap(text)}")

    def end(self) -> None:
        self._write("title", "\n" + "─" * self.width)
        seconds = time.monotonic() - self._began
        for text in self.not_shown:
            self._write("note", f"not shown on this host: {text}")
        for text in self.failed:
            self._write("false", f"✗ {text}")
        held = self.claims - len(self.failed)
        colour = "false" if self.failed else "true"
        self._write(colour, f"{held} of {self.claims} claims hold, in {seconds:.0f} seconds.")

    def _wrapped_sentences(self, lines: list[str]) -> list[str]:
        """What the program says to the reader is shown whole, on several lines; the rest is clipped."""
        whole: list[str] = []
        for line in lines:
            said = line.startswith(("WARNING", "Error", "sampan: "))
            whole += textwrap.wrap(line, self.width - 4, subsequent_indent="  ") if said else [line]
        return whole

    def _wrap(self, text: str) -> str:
        return "\n    ".join(textwrap.wrap(text, self.width - 4))

    def _clip(self, line: str, indent: int) -> str:
        line = "".join(char if char.isprintable() else " " for char in line.expandtabs())
        room = self.width - indent
        return line if len(line) <= room else line[: room - 1] + "…"

    def _write(self, kind: str, text: str) -> None:
        if self._status:
            sys.stdout.write("\r\033[K")
            self._status = False
        if self.colour and kind:
            text = f"\033[{COLOURS[kind]}m{text}\033[0m"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
