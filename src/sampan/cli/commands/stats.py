"""sampan stats: one sample a second of each container, shown in place on a terminal.

Samples are asked for one by one (`one-shot`), and the CPU share is computed between two of ours: one request a
container and second, and all of them show the same second.
"""

from __future__ import annotations

import os
import select
import sys

from sampan.cli.command import Command, Invocation
from sampan.cli.engine import Engine
from sampan.cli.failure import EngineError
from sampan.cli.flags import Option
from sampan.cli.formats import LIST_FORMAT
from sampan.cli.usage import STATS, stats_fields

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

INTERVAL_MS = 1000
HOME, CLEAR_LINE, CLEAR_BELOW, CLEAR_SCREEN = "\033[H", "\033[K", "\033[J", "\033[2J"
OPTIONS = (
    Option("-a", "--all", help="Show all containers (default shows just running)"),
    LIST_FORMAT,
    Option("--no-stream", help="Disable streaming stats and only pull the first result"),
    Option("--no-trunc", help="Do not truncate output"),
)

Samples = dict[str, "dict[str, Any] | None"]


def take_samples(engine: Engine, names: list[str]) -> Samples:
    """A sample for each name; None for one that has gone. Raises EngineError for anything else."""
    samples: Samples = {}
    for name in names:
        try:
            samples[name] = engine.get(f"/containers/{name}/stats", {"stream": "0", "one-shot": "1"})
        except EngineError as error:
            if error.status != 404:
                raise
            samples[name] = None
    return samples


class Display:
    """What to show, and how."""

    def __init__(self, invocation: Invocation) -> None:
        self.engine = invocation.engine
        self.wanted = invocation.arguments
        self.all = invocation.values.on("all")
        self.form = invocation.values.text("format")
        self.truncate = not invocation.values.on("no-trunc")
        self.in_place = os.isatty(1) and not invocation.values.on("no-stream")

    def names(self) -> list[str]:
        """The containers to show now: those asked for, else the running (or all)."""
        if self.wanted:
            return self.wanted
        return [item["Id"] for item in self.engine.get("/containers/json", {"all": self.all})]

    def show(self, samples: Samples, before: Samples) -> None:
        """One round."""
        rows = [
            STATS.row(stats_fields(name, sample, before.get(name), self.truncate)) for name, sample in samples.items()
        ]
        text = STATS.format(self.form, rows)
        if self.in_place:
            text = HOME + text.replace("\n", CLEAR_LINE + "\n") + CLEAR_BELOW
        sys.stdout.write(text)
        sys.stdout.flush()


def run(invocation: Invocation) -> int:
    display = Display(invocation)
    names = display.names()
    for name in display.wanted:
        invocation.engine.get(f"/containers/{name}/json")  # an unknown name is an error at the start, `--` later
    before = take_samples(display.engine, names)
    if display.in_place:
        sys.stdout.write(CLEAR_SCREEN)
    while True:
        select.poll().poll(INTERVAL_MS)
        samples = take_samples(display.engine, display.names())
        display.show(samples, before)
        if invocation.values.on("no-stream"):
            return 0
        before = samples


COMMAND = Command(
    "[CONTAINER...]", "Display a live stream of container(s) resource usage statistics", run, OPTIONS
)
