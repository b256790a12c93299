from __future__ import annotations

import re

from lesson import Lesson

TITLE = "A base image"
SAYS = "An image is a tree of files with a note of how to start it. These two are made from Debian's packages."
MORE = """\
An image holds no kernel and starts nothing by itself. It is a stack of layers, each a tar file of what it adds,
changes or deletes, and two small JSON documents: the manifest lists the layers, the configuration says which
program to start, with which environment, as which user. Every one of these is stored under the SHA-256 of its bytes,
so the name of an image is the hash of its configuration, and the configuration names the hashes of the layers: one
number stands for every byte.

`import` takes one tar and makes an image of one layer. The store under the data root is a standard OCI image layout
(`blobs/sha256/…`, `index.json`): other tools read it. A layer is also unpacked once into a directory of its own, by
whichever image needs it first; overlayfs stacks these directories, nothing is copied at a container's start.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    for name, what in (("debian", "a minimal Debian, as mmdebstrap made it"), ("busybox", "one program of 2 MB")):
        result = show(f"sampan import {name}.tar {name}")
        found = re.search(r"^sha256:[0-9a-f]{64}$", result.text, re.MULTILINE)
        page.claim(f"{what}, is an image now, named by the hash of its description", found is not None, result.text)
    result = show("sampan images")
    names = {line.split()[0] for line in result.lines[1:] if line.split()}
    page.claim("both are in the store", {"debian", "busybox"} <= names, names)
