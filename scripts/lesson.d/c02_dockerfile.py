from __future__ import annotations

import re
import time

from lesson import Lesson

TITLE = "A Dockerfile"
SAYS = "A recipe: each step makes a layer on top of the one before, in a container of its own."
MORE = """\
For each instruction the builder asks: have I done this before, on the same layer, with the same input? The input of
RUN is its text (with the ARGs in force); that of COPY and ADD is the content and the metadata of the files, not their
times. The first step with another answer is done, and so are all after it, because they stand on another layer.
Order therefore matters: what changes seldom goes up, what changes often goes down.

A RUN is a container like any other: the layers so far below, an empty one on top, namespaces, limits, the default
network. When its program ends with 0, what it wrote on top becomes the new layer. COPY and ADD run no container: files
are written into a layer by directory descriptors that never leave it, whatever symbolic links the layer or the archive
has in store for them.
"""
BUILDS = r"^Step |^ ---> Using cache|^Fetched |^Success|^[Ee]rror"
"""Of a build's output: the steps, not what apt-get says in them."""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    dockerfile = (lesson.directory / "httpd" / "Dockerfile").read_text()
    show("cat httpd/Dockerfile", shown=40, only=r"^[^#]")
    steps = len(re.findall(r"^(?!FROM)[A-Z]+ ", dockerfile, re.MULTILINE)) + 1

    first = show("sampan build -t httpd:v1 httpd", only=BUILDS, shown=20)
    page.claim("the build succeeds", first.status == 0, first.lines[-1:])
    page.claim("RUN reached Debian's archive over the container network, for real",
               re.search(r"(Get|Fetched).*", first.text) is not None)
    page.claim(f"all {steps} steps ran", len(_steps(first.text)) == steps, len(_steps(first.text)))

    began = time.monotonic()
    again = show("sampan build -t httpd:v1 httpd", only=BUILDS, shown=8)
    cached = again.text.count("Using cache")
    page.claim(f"again: every step from the cache, in {time.monotonic() - began:.2f} s",
               again.status == 0 and cached == steps - 1, f"{cached} of {steps - 1}")
    page.claim("and the same image", _image_id(again.text) == _image_id(first.text))

    changed = show("echo '<p>changed</p>' >> httpd/index.html\nsampan build -t httpd:v2 httpd", only=BUILDS, shown=30)
    ran = [command for command, cached in _steps(changed.text).items() if not cached]
    page.claim("after one file changed the expensive RUN still comes from the cache",
               changed.status == 0 and not any("apt-get" in command for command in ran), ran)
    page.claim("the COPY of that file and what follows it are built again",
               any(command.startswith("COPY") for command in ran), ran)
    page.claim("which makes another image", _image_id(changed.text) not in ("", _image_id(first.text)))


def _steps(text: str) -> dict[str, bool]:
    """Command of each build step -> whether it came from the cache."""
    parts = re.split(r"^Step \d+/\d+ : ", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: "Using cache" in part for part in parts}


def _image_id(text: str) -> str:
    found = re.search(r"^Successfully built ([0-9a-f]{12})", text, re.MULTILINE)
    return found[1] if found else ""
