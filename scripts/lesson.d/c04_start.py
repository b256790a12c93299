from __future__ import annotations

import re

from lesson import Lesson

TITLE = "Start"
SAYS = "The image gets a writable layer on top, namespaces around it and limits upon it, and its program runs."
MORE = """\
What happens in these milliseconds: the engine takes a network namespace that is ready and waiting, makes the
container's directories, and hands one message to the launcher, a small process that does nothing but fork. Its child,
the shim, stays with the container as its parent; it makes the cgroups and a first process in new namespaces. That one
mounts the overlay, /proc, /dev and the rest, makes this its root, gives up all rights that the container is not to
have, and becomes the program.

The published port is one element in a map of nftables: the kernel rewrites the address of each packet. There is no
proxy process, and the number of ports does not slow it down.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    if lesson.port != 8080:
        page.note(f"port 8080 of this host is taken: {lesson.port} instead")
    result = show(f"sampan run -d --name web -p {lesson.port}:80 --memory 256m --cpus 0.5 --cpuset-cpus 0 "
                  "--pids-limit 100 \\\n    httpd:v1")
    page.claim("its id", re.search(r"^[0-9a-f]{64}$", result.text, re.MULTILINE) is not None, result.text)
    result = show("sampan ps --format 'table {{.Names}}\\t{{.Image}}\\t{{.Status}}\\t{{.Ports}}'")
    page.claim("it is up, and a port of the host leads to it",
               "Up " in result.text and f"{lesson.port}->80/tcp" in result.text, result.text)
