from __future__ import annotations

import os
from pathlib import Path

from lesson import Lesson

TITLE = "Verify"
SAYS = "What the container sees, and what the host sees of it."
MORE = """\
A container is not a small machine: it is some processes of this machine, with another view. `exec` starts one more
process with that view: it joins the namespaces and cgroups of the container. `top` does not look into the container
at all, it reads /proc on the host and shows the same processes by their other numbers.
"""


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    retry = "--retry 20 --retry-connrefused --retry-delay 1"  # the server may still be on its way up
    result = show(f"curl -s {retry} http://127.0.0.1:{lesson.port}/")
    page.claim("the page comes from inside the container", result.status == 0 and "<" in result.text, result.text)

    result = show("sampan exec web cat /etc/os-release | head -1; sampan exec web sh -c 'echo /*'")
    files = {word for word in result.text.split() if word.startswith("/")}
    host = {f"/{name}" for name in os.listdir("/")}
    page.claim("it has a file system of its own", "/etc" in files and files != host, files)
    result = show("sampan exec web cat /proc/1/comm")
    page.claim("process 1 is the program of the image, not the host's init",
               result.text == "apache2" != Path("/proc/1/comm").read_text().strip(), result.text)
    result = show("sampan exec web hostname")
    page.claim("its hostname is its id", result.text == lesson.inspect("web", "{{.Id}}")[:12], result.text)
    result = show("sampan exec web hostname -I")
    address = lesson.inspect("web", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    page.claim("its address is one of the bridge's network", result.text.strip() == address != "", result.text)

    result = show("sampan top web -eo pid,ppid,comm", shown=8)
    pids = [int(line.split()[0]) for line in result.lines[1:] if line.split()[0].isdigit()]
    known = [pid for pid in pids if "apache2" in Path(f"/proc/{pid}/comm").read_text()]
    page.claim("the same processes have other pids on the host: they are ordinary processes",
               len(pids) > 1 and known == pids and lesson.pid("web") in pids, pids)
