from __future__ import annotations

import time
from pathlib import Path

from lesson import Lesson
from limits import Groups

TITLE = "Cgroups: how much it gets"
SAYS = "A cgroup is a directory with limits in its files. inspect names the process, the process names its cgroups."
MORE = """\
The files differ between cgroup v1 (a tree for each controller) and v2 (one tree): `memory.limit_in_bytes` or
`memory.max`, `cpu.cfs_quota_us` or `cpu.max`. The engine writes whichever the host has.

Each limit has its own way to bite. Memory: the kernel first takes back what it can (caches), then kills a process of
this group, and only of this group. Processes: fork fails with EAGAIN, "Resource temporarily unavailable". CPU: when
the group has used its share of the period, 50 ms of each 100, all its processes wait for the next one; this is
throttling, and a program that is slow for this reason looks idle. A cpuset says where it may run, not how much.
"""


def tell(lesson: Lesson) -> None:
    _look(lesson)
    _memory(lesson)
    _pids(lesson)
    _cpu(lesson)


def _look(lesson: Lesson) -> None:
    page = lesson.page
    pid = lesson.pid("web")
    groups = Groups.of(pid)
    lesson.shell.show("cat /proc/$(sampan inspect -f '{{.State.Pid}}' web)/cgroup", shown=6)
    for name, wanted, flag in (("memory", str(256 << 20), "--memory 256m"), ("cpu", "", "--cpus 0.5"),
                               ("cpuset", "0", "--cpuset-cpus 0"), ("pids", "100", "--pids-limit 100")):
        path = groups.find(name)
        if path is None:
            page.cannot_show(flag, f"this host has no {name} controller for containers")
            continue
        result = lesson.shell.show(f"cat {path}")
        holds = groups.cpus() == 0.5 if name == "cpu" else result.text == wanted
        page.claim(f"{flag} is this number", holds, result.text)


def _memory(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    page.pause("They bite. A program that takes 64 MB where 16 are allowed:")
    result = show("sampan run --name hog --memory 16m busybox \\\n"
                  "    dd if=/dev/zero of=/dev/null bs=64M count=1; echo status $?")
    page.claim("it is killed: status 137 is 128 + 9, SIGKILL", result.text.endswith("status 137"), result.text)
    result = show("sampan inspect -f '{{.State.OOMKilled}} {{.State.Error}}' hog")
    page.claim("and inspect says that the memory limit of this container was the reason",
               result.text.startswith("true"), result.text)


def _pids(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    page.pause("A fork bomb: a hundred processes where twenty are allowed.")
    result = show("sampan run --name bomb --pids-limit 20 busybox sh -c \\\n"
                  "    'for i in $(seq 100); do sleep 30 & echo $i; done' 2>&1 | tail -2", shown=4)
    started = max((int(line) for line in result.lines if line.isdigit()), default=0)
    page.claim("it stops at the limit: the kernel refuses the next fork", "can't fork" in result.text and started < 20,
               result.text)
    lesson.shell.ask("sampan rm -f bomb")


def _cpu(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    page.pause("A program that only burns CPU, with half a CPU:")
    show("sampan run -d --name burn --cpus 0.5 --cpuset-cpus 0 busybox sh -c 'while :; do :; done'")
    pid = lesson.pid("burn")
    groups = Groups.of(pid)
    share = _share(groups, until_throttled=True)
    page.claim(f"by the cgroup's own accounting it used {share:.2f} of a CPU in {SECONDS} seconds",
               0.05 < share < 0.56, share)
    page.claim(f"and was made to wait {groups.times_throttled()} times", groups.times_throttled() > 0)
    allowed = next(line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                   if line.startswith("Cpus_allowed_list"))
    page.claim("the cpuset pins it: it may run on CPU 0 only", allowed == "0", allowed)
    result = show("sampan stats --no-stream burn web \\\n"
                  "    --format 'table {{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.PIDs}}'")
    row = next((line.split() for line in result.lines if line.startswith("burn")), ["", "0%"])
    page.claim("stats shows the same, live", 5 < float(row[1].rstrip("%")) < 58, row)
    result = show("sampan update --cpus 0.1 --memory 64m --memory-swap 64m burn")
    page.claim("update changes the limits while it runs", result.status == 0 and round(groups.cpus(), 3) == 0.1 and
               groups.read("memory") == str(64 << 20), f"{groups.cpus()} {groups.read('memory')}")
    share = _share(groups)
    page.claim(f"and it is slower from now on: {share:.2f} of a CPU", share < 0.16, share)
    lesson.shell.ask("sampan rm -f burn")


SECONDS = 2


def _share(groups: Groups, until_throttled: bool = False) -> float:
    """CPUs used over SECONDS. On a busy host it may take longer until the limit, not the others, holds it back."""
    deadline = time.monotonic() + 20
    while until_throttled and groups.times_throttled() == 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    used, began = groups.used_seconds(), time.monotonic()
    time.sleep(SECONDS)
    return (groups.used_seconds() - used) / (time.monotonic() - began)
