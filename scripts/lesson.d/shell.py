"""Runs the lesson's commands as a user would: by bash, in a directory, with the engine's address in the environment."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from page import SHOWN_LINES, Page


@dataclass(frozen=True)
class Result:
    """Of a command: `text` is stdout and stderr in the order they came, stripped."""

    text: str
    status: int

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


PATIENCE = 300
"""Seconds that any command may take: a build with downloads over a slow line."""


class Shell:
    """`program` is what stands for `sampan` in every command shown: `docker`, when the lesson drives another engine."""

    def __init__(self, page: Page, program: str, environment: dict[str, str], directory: Path) -> None:
        self.page = page
        self.program = program
        self.environment = environment
        self.directory = directory

    def show(self, command: str, shown: int = SHOWN_LINES, only: str = "") -> Result:
        """Print the command, run it, print its output (`only`: the lines that match)."""
        self.page.command(self.named(command))
        result = self._run(command, live=True)
        text = "\n".join(line for line in result.lines if re.search(only, line)) if only else result.text
        self.page.output(text, shown)
        return result

    def ask(self, command: str) -> str:
        """The output of a command that is not part of the story."""
        return self._run(command, live=False).text

    def named(self, command: str) -> str:
        return re.sub(r"\bsampan\b(?! serve)", self.program, command) if self.program != "sampan" else command

    def _run(self, command: str, live: bool) -> Result:
        with subprocess.Popen(
            ["timeout", "--kill-after=5", str(PATIENCE), "bash", "-o", "pipefail", "-c", self.named(command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | self.environment, cwd=self.directory, errors="replace", text=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if live:
                    self.page.progress(line.rstrip("\n"))
        return Result("".join(lines).strip(), process.returncode)
