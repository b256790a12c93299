from __future__ import annotations

import os
import re

from lesson import Lesson

TITLE = "Namespaces: whom it sees"
SAYS = "A namespace is a number that a process carries. Same number, same world; another number, another world."
MORE = """\
pid: a numbering of processes of its own, beginning with 1; the host sees them too, under other numbers. mnt: a list
of mounts of its own, so another root. net: devices, addresses, routes, ports, firewall rules of its own; a veth pair,
a cable with two ends, leads to the bridge on the host. uts: the hostname. ipc: System V and POSIX message queues,
semaphores, shared memory. cgroup: where it sees the top of the cgroup tree. user: which user it is where; with one of
its own, root in the container is nobody special outside. time: what the monotonic clock counts from.

A namespace lives as long as a process (or an open file) is in it. There is nothing to remove afterwards.
"""
PRIVATE = ("pid", "mnt", "net", "uts", "ipc", "cgroup")
ON_REQUEST = ("user", "time")


def tell(lesson: Lesson) -> None:
    page, show = lesson.page, lesson.shell.show
    names = " ".join(PRIVATE + ON_REQUEST)
    show("pid=$(sampan inspect -f '{{.State.Pid}}' web)\n"
         f"for ns in {names}; do\n"
         "    printf '%-7s host %-22s web %s\\n' $ns $(readlink /proc/self/ns/$ns /proc/$pid/ns/$ns); done")
    pid = lesson.pid("web")
    have = os.listdir("/proc/self/ns")
    for kind in PRIVATE + ON_REQUEST:
        if kind not in have:
            page.cannot_show(f"the {kind} namespace", "this kernel does not have it")
    other = [kind for kind in PRIVATE if kind in have and _of(pid, kind) != _of("self", kind)]
    page.claim(f"{', '.join(PRIVATE)}: its own", other == [kind for kind in PRIVATE if kind in have], other)
    same = [kind for kind in ON_REQUEST if kind in have and _of(pid, kind) == _of("self", kind)]
    page.claim("user and time: the host's, until asked for", same == [k for k in ON_REQUEST if k in have], same)
    if lesson.own:
        for kind, flag in (("user", "--userns private"), ("time", "--timens private")):
            if kind in have:
                result = show(f"sampan run --rm {flag} busybox readlink /proc/self/ns/{kind}")
                page.claim(f"{flag}: its own, too", re.fullmatch(rf"{kind}:\[\d+\]", result.text) is not None
                           and result.text != _of("self", kind), result.text)
    result = show("sampan run --rm --pid host --uts host busybox \\\n"
                  "    sh -c 'readlink /proc/self/ns/pid; readlink /proc/self/ns/uts'")
    page.claim("--pid host, --uts host: the host's world instead",
               result.text.split() == [_of("self", "pid"), _of("self", "uts")], result.text)
    result = show("sampan run --rm --network container:web busybox wget -q -O - http://127.0.0.1/")
    page.claim("--network container:web: another container in the same network namespace finds the server on 127.0.0.1",
               result.status == 0 and "<" in result.text, result.text)


def _of(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")
