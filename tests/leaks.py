"""What a test can leave behind on a host, and how to see it.

A `Snapshot` lists it: processes, mounts, cgroups, network devices, nft tables, loop devices, files, sysctls. A `Watch`
takes one when it is made and compares in `left()`. Some things end asynchronously (a process after SIGKILL, a veth
after its namespace): the kernel tells by pidfd and rtnetlink, and `left()` waits for that, at most `GRACE` seconds.

In the sandbox (sandbox.py) all that is seen belongs to this run. Elsewhere only what carries our name counts.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import sandbox

GRACE = 5.0
"""Seconds given to the kernel and to processes that were just told to end. Spent only when something is left."""

SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_local_port_range",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "kernel/core_pattern",
    "vm/overcommit_memory",
)
"""Settings of a host that container engines are known to change."""

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
RTMGRP_LINK, RTM_GETLINK, IFLA_IFNAME, IFLA_MASTER = 1, 18, 3, 10
NFT_MSG_GETTABLE, NFTA_TABLE_NAME = (10 << 8) | 1, 1
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")

Things = frozenset[Any]


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int = field(compare=False)
    command: str = field(compare=False)
    ended: bool = field(compare=False, default=False)

    def __str__(self) -> str:
        if self.ended:
            return f"{self.command} (pid {self.pid}) has ended, and nobody has waited for it"
        return f"{self.command} (pid {self.pid}, child of {self.parent})"


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    master: int = field(compare=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Snapshot:
    processes: Things
    mounts: Things
    cgroups: Things
    links: Things
    nft_tables: Things
    loop_devices: Things
    files: Things
    sysctls: Things

    @classmethod
    def take(cls) -> Snapshot:
        return cls(
            processes=frozenset(_processes()),
            mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=frozenset(_cgroups()),
            links=frozenset(_links()),
            nft_tables=frozenset(_nft_tables()),
            loop_devices=frozenset(_loop_devices()),
            files=frozenset(_files()),
            sysctls=frozenset(_sysctls()),
        )


class Watch:
    """What came since this was made, and stayed."""

    def __init__(self) -> None:
        self.before = Snapshot.take()

    def left(self, grace: float = GRACE) -> dict[str, Things]:
        """New things by field of Snapshot, after everything asynchronous had its time. Empty: nothing leaked."""
        news = self._news()
        deadline = time.monotonic() + grace
        while news and (remaining := deadline - time.monotonic()) > 0:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as changes:
                changes.bind((0, RTMGRP_LINK))
                if news := self._news():  # once more: the change may have come before we listened
                    _wait(changes, news.get("processes", frozenset()), remaining)
                    news = self._news()
        return news

    def forgive(self, left: dict[str, Things]) -> None:
        """Take it as given from now on: it was reported."""
        self.before = replace(self.before, **{name: getattr(self.before, name) | left[name] for name in left})

    def _news(self) -> dict[str, Things]:
        now = Snapshot.take()
        news = {entry.name: getattr(now, entry.name) - getattr(self.before, entry.name) for entry in fields(now)}
        if self.before.processes:
            news |= self._without_older_engines(now, news)
        return {name: things for name, things in news.items() if things}

    def _without_older_engines(self, now: Snapshot, news: dict[str, Things]) -> dict[str, Things]:
        """An engine that a module's or the session's fixture runs keeps namespaces ready, forks workers, makes the
        parent of its cgroups when it needs it: the watch of that fixture's scope looks after these."""
        older = {process.pid for process in self.before.processes}
        parents = {process.pid: process.parent for process in now.processes}

        def descends(pid: int) -> bool:
            return pid in older or (pid in parents and descends(parents[pid]))

        bridges = {link.index for link in self.before.links}
        return {
            "processes": frozenset(process for process in news["processes"] if not descends(process.pid)),
            "links": frozenset(link for link in news["links"] if link.master not in bridges),
            "cgroups": frozenset(path for path in news["cgroups"] if CONTAINER_ID.search(path)),
        }


def describe(left: dict[str, Things]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {thing}" for name in left for thing in sorted(left[name], key=str))


def _wait(changes: socket.socket, processes: Things, seconds: float) -> None:
    """Until a device changes or one of `processes` ends. Cgroups, mounts and files tell nobody: look every 50 ms."""
    poll = select.poll()
    poll.register(changes, select.POLLIN)
    pidfds = []
    for process in processes:
        if process.ended:
            continue
        try:
            pidfds.append(os.pidfd_open(process.pid))
        except ProcessLookupError:
            continue
        poll.register(pidfds[-1], select.POLLIN)
    poll.poll(min(seconds, 0.05) * 1000)
    for fd in pidfds:
        os.close(fd)


def _processes() -> Iterator[Process]:
    """In the sandbox everybody but pytest and the init; elsewhere pytest's descendants. Others reap their own."""
    table = {process.pid: process for process in _proc()}
    own = os.getpid()
    for process in table.values():
        if process.pid in (own, 1) or (process.ended and process.parent != own):
            continue
        if sandbox.inside() or _below(process, own, table):
            yield process


def _proc() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", errors="replace") as stat:
                    text = stat.read()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            command, _, rest = text.partition(" (")[2].rpartition(") ")
            state, parent = rest.split(" ")[:2]
            yield Process(int(name), int(parent), command, state in "ZX")


def _below(process: Process, top: int, table: dict[int, Process]) -> bool:
    while process.parent in table:
        if process.parent == top:
            return True
        process = table[process.parent]
    return False


def _cgroups() -> Iterator[str]:
    for path, _, _ in os.walk(sandbox.CGROUP_ROOT):
        if sandbox.inside() or "sampan" in path:
            yield path


def _links() -> Iterator[Link]:
    for body in _dump(NETLINK_ROUTE, RTM_GETLINK, b"\0" * 16):
        (index,) = struct.unpack_from("i", body, 4)
        attributes = _attributes(body[16:])
        (master,) = struct.unpack("I", attributes.get(IFLA_MASTER, b"\0" * 4))
        yield Link(index, _text(attributes[IFLA_IFNAME]), master)


def _nft_tables() -> Iterator[str]:
    for body in _dump(NETLINK_NETFILTER, NFT_MSG_GETTABLE, b"\0" * 4):
        yield _text(_attributes(body[4:])[NFTA_TABLE_NAME])


def _dump(protocol: int, kind: int, body: bytes) -> Iterator[bytes]:
    """The bodies of a netlink dump's messages. Nothing when we may not ask (nftables without root)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        sock.send(struct.pack("IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 18)
            while data:
                length, answer, _, _, _ = struct.unpack_from("IHHII", data)
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    return
                yield data[16:length]
                data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _loop_devices() -> Iterator[str]:
    """Loop devices are the machine's: those over files of this run's /tmp are ours."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text().strip()
        except FileNotFoundError:
            continue
        if "sampan" in file or (sandbox.inside() and file.startswith("/tmp/")):
            yield f"{backing.parts[3]}: {file}"


def _files() -> Iterator[str]:
    """Entries of /tmp and /dev/shm, everything below /run, an engine's default data root."""
    for directory in ("/tmp", "/dev/shm"):
        for name in os.listdir(directory):
            if (sandbox.inside() and directory == "/tmp" and not name.startswith("pytest-of-")) or "sampan" in name:
                yield f"{directory}/{name}"
    for path, directories, names in os.walk("/run"):
        directories[:] = [name for name in directories if (path, name) != ("/run", "mount")]  # mount(8)'s own notes
        for name in directories + names:
            if sandbox.inside() or "sampan" in path + name:
                yield f"{path}/{name}"
    if os.path.lexists("/var/lib/sampan"):
        yield "/var/lib/sampan"


def _sysctls() -> Iterator[str]:
    for name in SYSCTLS:
        path = Path("/proc/sys", name)
        if path.exists():
            yield f"{name} = {path.read_text().strip()}"
