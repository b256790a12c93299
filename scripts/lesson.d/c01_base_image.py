from __future__ import annotations

import re

from lesson import Lesson

TITLE = "A base image"
SAYS = "An image is a tree of files with a note of how to start it. These two are made from Debian's packages."


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    for name, what in (("debian", "a minimal Debian, as mmdebstrap made it"), ("busybox", "one program of 2 MB")):
        result = show(f"sampan import {name}.tar {name}")
        found = re.search(r"^sha256:[0-9a-f]{64}$", result.text, re.MULTILINE)
        page.claim(f"{what}, is an image now, named by the hash of its description", found is not None, result.text)
    result = show("sampan images")
    names = {line.split()[0] for line in result.lines[1:] if line.split()}
    page.claim("both are in the store", {"debian", "busybox"} <= names, names)
