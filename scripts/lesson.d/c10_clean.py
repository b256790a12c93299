from __future__ import annotations

import re

from lesson import Lesson, stop_engine

TITLE = "Clean"
SAYS = "Containers, images, the engine: and the host is as before."
MORE = """\
When the last process of a container ends, the kernel takes away its namespaces, and with them mounts, devices and
addresses: they were never made in the host's. What is left to remove are directories: the writable layer and the
cgroups. The engine has them in its list and sweeps at its start, should it have died in between.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    lesson.watch.marks |= set(re.findall(r"\b[0-9a-f]{64}\b", lesson.shell.ask("sampan ps -aq --no-trunc")))
    result = show("sampan rm web hog deaf polite")
    left = lesson.shell.ask("sampan ps -aq")
    page.claim("no container is left", result.status == 0 and (left == "" or not lesson.own), left)
    show("sampan rmi httpd:stable httpd:v1 httpd:v2", shown=6)
    result = show("sampan system prune --force --all" if lesson.own else "sampan image prune --force", shown=6)
    if lesson.own:
        page.claim("no image is left", result.status == 0 and lesson.shell.ask("sampan images -q") == "")
        page.command("kill $(cat pid)")
        page.claim("the engine ends in order", stop_engine(lesson) == 0, lesson.engine and lesson.engine.returncode)
        remains = lesson.watch.left()
        if others := lesson.watch.others():
            page.note(f"other programs did things on this host meanwhile: {len(others)}, for example {others[0]}")
        for kind in ("processes", "mounts", "cgroups", "network devices", "nft tables", "settings"):
            page.claim(f"{kind}: as before", kind not in remains, ", ".join(sorted(remains.get(kind, ()))))
    else:
        lesson.shell.ask("sampan rmi debian busybox")
