"""The places a container's start mounts something on, made below a RUN step instead of in its layer.

A start makes what is missing in the upper directory, and that is what becomes the step's layer: an empty /etc/hosts
would be in every image, and a RUN that changes nothing would make a layer. So they are made ahead, in a directory of
their own that is one more layer below the step's and of no image. Runs in worker jobs.
"""

from __future__ import annotations

import os

from sampan.build import rootfs
from sampan.build.copying import Look, Target
from sampan.linux import paths

DIRECTORIES = ("/dev", "/proc", "/sys")
FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


def make(lower: list[str], directory: str) -> str | None:
    """The path of a directory, made in `directory`, with what is missing in `lower`; None if nothing is.

    Where an image has a link that leads nowhere, what it leads to is made. The process's umask must be 0.
    """
    with rootfs.readable(lower) as image:
        missing = [path for path in (*DIRECTORIES, *FILES) if not paths.exists(image, path)]
    if not missing:
        return None
    with rootfs.writable(lower, directory) as step:
        target = Target(step.root, Look())
        for path in missing:
            if path in DIRECTORIES:
                os.close(target.directory(path))
            else:
                target.text(b"", path)
    return step.upper
