from __future__ import annotations

import re

from lesson import Lesson

TITLE = "Start"
SAYS = "The image gets a writable layer on top, namespaces around it and limits upon it, and its program runs."


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
