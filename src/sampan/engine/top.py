"""`docker top`: the container's processes with the host's pids, read from /proc; nothing of the container is run."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import InvalidArgument
from sampan.linux.cgroup import Group

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE") // 1024
_MAX = 1 << 20
_FULL = ("uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd")
_BSD = ("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "time", "command")


@dataclass
class Process:
    """One process, from /proc/PID. Times in clock ticks, sizes in KiB; `started` in seconds since the epoch."""

    pid: int
    stat: list[str]
    comm: str
    command: str
    uid: int
    gid: int
    started: float
    users: dict[int, str]
    memory: int

    def number(self, field: int) -> int:
        """Field of /proc/PID/stat as proc_pid_stat(5) numbers them."""
        return int(self.stat[field - 3])

    @property
    def busy(self) -> int:
        return self.number(14) + self.number(15)

    @property
    def user(self) -> str:
        return self.users.get(self.uid, str(self.uid))


def _load(process: Process) -> float:
    """Percent of one CPU, over the process's life."""
    lived = max(time.time() - process.started, 1 / _TICKS)
    return 100 * process.busy / _TICKS / lived


def _clock(process: Process) -> str:
    """CPU time as ps has it: 00:01:05, with days in front."""
    seconds = process.busy // _TICKS
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _start(process: Process) -> str:
    started = time.localtime(process.started)
    return time.strftime("%H:%M" if time.time() - process.started < 86400 else "%b%d", started)


def _terminal(process: Process) -> str:
    number = process.number(7)
    if not number:
        return "?"
    major, minor = os.major(number), os.minor(number)
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else f"tty{minor}"


def _elapsed(process: Process) -> str:
    seconds = int(time.time() - process.started)
    days, rest = divmod(seconds, 86400)
    hours = f"{rest // 3600:02}:" if rest >= 3600 or days else ""
    return f"{f'{days}-' if days else ''}{hours}{rest // 60 % 60:02}:{rest % 60:02}"


# ps(1)'s names → (title, value)
_COLUMNS: dict[str, tuple[str, Callable[[Process], object]]] = {
    "pid": ("PID", lambda it: it.pid),
    "ppid": ("PPID", lambda it: it.number(4)),
    "pgid": ("PGID", lambda it: it.number(5)),
    "sid": ("SID", lambda it: it.number(6)),
    "uid": ("UID", lambda it: it.user),
    "user": ("USER", lambda it: it.user),
    "euser": ("EUSER", lambda it: it.user),
    "gid": ("GID", lambda it: it.gid),
    "c": ("C", lambda it: int(min(_load(it), 99))),
    "pcpu": ("%CPU", lambda it: f"{_load(it):.1f}"),
    "pmem": ("%MEM", lambda it: f"{100 * it.number(24) * _PAGE / it.memory:.1f}"),
    "vsz": ("VSZ", lambda it: it.number(23) // 1024),
    "rss": ("RSS", lambda it: it.number(24) * _PAGE),
    "nlwp": ("NLWP", lambda it: it.number(20)),
    "pri": ("PRI", lambda it: 39 - it.number(18)),
    "ni": ("NI", lambda it: it.number(19)),
    "s": ("S", lambda it: it.stat[0]),
    "state": ("S", lambda it: it.stat[0]),
    "stat": ("STAT", lambda it: it.stat[0] + ("s" if it.number(6) == it.pid else "")),
    "stime": ("STIME", _start),
    "start": ("START", _start),
    "etime": ("ELAPSED", _elapsed),
    "tty": ("TTY", _terminal),
    "tt": ("TT", _terminal),
    "time": ("TIME", _clock),
    "comm": ("COMMAND", lambda it: it.comm),
    "cmd": ("CMD", lambda it: it.command),
    "args": ("COMMAND", lambda it: it.command),
    "command": ("COMMAND", lambda it: it.command),
}
_ALIASES = {"%cpu": "pcpu", "%mem": "pmem", "vsize": "vsz", "ucmd": "comm", "ucomm": "comm", "tname": "tty",
            "cputime": "time", "thcount": "nlwp", "nice": "ni", "pgrp": "pgid", "sess": "sid", "uname": "user"}


def top(ctx: Context, container: Container, ps_args: str) -> dict[str, Any]:
    """`{"Titles": [...], "Processes": [[...]]}`. Raises Conflict for a container that does not run, InvalidArgument."""
    container.check("top")
    chosen = columns(ps_args or "-ef")
    pids = Group.open(ctx.cgroups, ctx.cgroup_path(container.record)).procs()
    users, memory, boot = _users(), _memory(), _boot()
    found = [process for pid in sorted(pids) if (process := _read(pid, users, memory, boot)) is not None]
    return {
        "Titles": [title for title, _ in chosen],
        "Processes": [[str(value(process)) for _, value in chosen] for process in found],
    }


def columns(ps_args: str) -> list[tuple[str, Callable[[Process], object]]]:
    """The columns that options of ps(1) ask for: -e, -f, -A, aux, -o LIST. Raises InvalidArgument."""
    try:
        words = shlex.split(ps_args)
    except ValueError as error:
        raise InvalidArgument(f"invalid ps arguments {ps_args[:100]!r}: {error}") from error
    names: list[str] = []
    layout: tuple[str, ...] = ("pid", "tty", "time", "cmd")
    while words:
        word = words.pop(0)
        letters = word.lstrip("-")
        if letters.startswith("o") or word == "--format" or letters[-1:] == "o":
            listed = letters.partition("o")[2] or (words.pop(0) if words else "")
            names += [name for name in listed.replace(",", " ").split() if name]
        elif word.startswith("-") and set(letters) <= set("eAfFlw"):
            layout = _FULL if set(letters) & set("fFl") else layout
        elif not word.startswith("-") and set(letters) <= set("auxwf"):
            layout = _BSD
        else:
            raise InvalidArgument(f"ps option {word[:100]!r} is not supported: use -ef, aux, or -o with columns")
    return [_column(name) for name in names or layout]


def _column(name: str) -> tuple[str, Callable[[Process], object]]:
    name, separator, title = name.partition("=")
    found = _COLUMNS.get(_ALIASES.get(name.lower(), name.lower()))
    if found is None:
        raise InvalidArgument(f"ps column {name[:100]!r} is not supported; there are: {', '.join(sorted(_COLUMNS))}")
    return (title, found[1]) if separator and title else found


def _read(pid: int, users: dict[int, str], memory: int, boot: float) -> Process | None:
    """None for one that has ended meanwhile."""
    try:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        owner = os.fstat(directory)
        stat = _file(directory, "stat").decode("utf-8", "replace")
        words = _file(directory, "cmdline").rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(directory)
    comm = stat[stat.index("(") + 1 : stat.rindex(")")]  # may hold spaces and parentheses
    fields = stat[stat.rindex(")") + 2 :].split()
    started = boot + int(fields[22 - 3]) / _TICKS
    return Process(pid, fields, comm, words or f"[{comm}]", owner.st_uid, owner.st_gid, started, users, memory)


def _file(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, _MAX)
    finally:
        os.close(fd)


def _users() -> dict[int, str]:
    """The host's names, from /etc/passwd alone: no lookup that could leave the host."""
    found: dict[int, str] = {}
    for line in Path("/etc/passwd").read_text(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdecimal():
            found.setdefault(int(fields[2]), fields[0])
    return found


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE


def _boot() -> float:
    """When the host was started, seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
