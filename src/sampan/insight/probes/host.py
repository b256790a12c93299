"""The machine, and the limits that many containers meet first."""

from __future__ import annotations

import importlib.util
import os
import resource
import sys

from sampan.insight.finding import LIMITED, MISSING, OK, Finding

GROUP = "Host"
LIBRARIES = ("msgspec", "h11", "isal", "zstandard")
WANTED_FILES = 65536
WANTED_PIDS = 32768


def examine() -> list[Finding]:
    """CPUs, memory, Python and its libraries, and limits."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    findings = [
        Finding(GROUP, "machine", OK, f"{len(os.sched_getaffinity(0))} CPUs, {memory / (1 << 30):.1f} GiB of memory"),
        _python(),
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    findings.append(
        Finding(GROUP, "open files", OK, f"{hard}") if hard == resource.RLIM_INFINITY or hard >= WANTED_FILES else
        Finding(GROUP, "open files", LIMITED, f"{hard} (soft {soft})", "the engine may run out with many containers",
                f"LimitNOFILE={WANTED_FILES} in the service, or ulimit -Hn")
    )
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        pids = int(file.read())
    findings.append(
        Finding(GROUP, "process ids", OK, f"{pids}") if pids >= WANTED_PIDS else
        Finding(GROUP, "process ids", LIMITED, f"{pids}", "few for many containers", "sysctl kernel.pid_max=4194304")
    )
    return findings


def _python() -> Finding:
    absent = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    version = sys.version.split()[0]
    if absent:
        return Finding(GROUP, "python", MISSING, f"{version} without {', '.join(absent)}", "the engine cannot run",
                       f"pip install {' '.join(absent)}")
    return Finding(GROUP, "python", OK, f"{version} with {', '.join(LIBRARIES)}")
