"""The first lesson, from a base image to a clean host. Started by scripts/lesson, which sets up what it needs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import c01_base_image
import c02_dockerfile
import c03_image
import c04_start
import c05_verify
import c06_namespaces
import c07_cgroups
import c08_shell
import c09_stop
import c10_clean
import lesson
import tour

CHAPTERS = (
    c01_base_image, c02_dockerfile, c03_image, c04_start, c05_verify, c06_namespaces, c07_cgroups, c08_shell, c09_stop,
    c10_clean,
)
INTRODUCTION = """A container is three planks nailed together: an image (what it sees), namespaces (whom it sees) and
cgroups (how much it gets). Each command below is run for real; each ✓ was checked. The lesson has an engine of its own,
with its files in the current directory, and takes it away at the end."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    this = lesson.begin()
    try:
        this.page.title("Sampan: the first lesson", " ".join(INTRODUCTION.split()))
        if this.own:
            lesson.start_engine(this)
        for chapter in CHAPTERS:
            this.page.chapter(chapter.TITLE, chapter.SAYS, chapter.MORE)
            try:
                chapter.tell(this)
            except (OSError, LookupError, ValueError) as error:  # a step before did not do what it should
                this.page.claim("the chapter can be told to its end", False, repr(error))
    except KeyboardInterrupt:
        return 130
    finally:
        lesson.sweep(this)
    this.page.end()
    if path := os.environ.get("LESSON_TOUR"):
        Path(path).write_text(tour.text(this.page.record))
    return 1 if this.page.failed else 0


if __name__ == "__main__":
    sys.exit(main())
