"""What /proc says about one process: proc(5). Read-only; everything may vanish between two reads."""

from __future__ import annotations

import os

from sampan.errors import NotFound
from sampan.linux import mountinfo

NAMESPACES = ("pid", "mnt", "net", "uts", "ipc", "cgroup", "user", "time")
READ_LIMIT = 4 << 20


class Process:
    """One process. Raises NotFound when it is not (any more) there, OSError when it cannot be looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status = self._status()

    def read(self, name: str) -> str:
        """A file of its directory, at most READ_LIMIT bytes."""
        try:
            with open(f"/proc/{self.pid}/{name}", "rb") as file:
                return file.read(READ_LIMIT).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, ProcessLookupError):
            raise NotFound(f"process {self.pid} has ended") from None

    def _status(self) -> dict[str, str]:
        lines = self.read("status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def parent(self) -> int:
        return int(self.status["PPid"])

    @property
    def inner_pid(self) -> int:
        """Its number in its innermost pid namespace."""
        return int(self.status["NSpid"].split()[-1])

    @property
    def command(self) -> str:
        """The command line in one line; [name] for a kernel thread or a zombie."""
        words = self.read("cmdline").rstrip("\0").split("\0")
        text = " ".join(words).strip()
        return text.replace("\n", " ") if text else f"[{self.status['Name']}]"

    @property
    def uid(self) -> int:
        return int(self.status["Uid"].split()[1])

    def mask(self, which: str) -> int:
        """A capability set: CapEff, CapPrm, CapInh, CapBnd, CapAmb."""
        return int(self.status[which], 16)

    def namespace(self, kind: str) -> str:
        """The inode number of its namespace of that kind; "" when the kernel has none. Raises OSError."""
        try:
            return os.readlink(f"/proc/{self.pid}/ns/{kind}").partition("[")[2].rstrip("]")
        except FileNotFoundError:
            return ""

    def cgroups(self) -> dict[str, str]:
        """Controller (or "" for v2) → path of its group."""
        found = {}
        for line in self.read("cgroup").splitlines():
            _, names, path = line.split(":", 2)
            for name in names.split(","):
                found[name] = path
        return found

    def mounts(self) -> list[mountinfo.Mount]:
        """Its mounts as it sees them."""
        return [mountinfo.parse(line) for line in self.read("mountinfo").splitlines()]

    def descriptors(self) -> dict[int, str]:
        """fd → what it is open on. Raises OSError."""
        found = {}
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/{self.pid}/fd/{name}")
            except FileNotFoundError:
                continue
        return found


def all_pids() -> list[int]:
    """Every process that can be seen."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def family(pid: int) -> list[Process]:
    """The processes in the pid namespace of `pid` (and in ones made inside it), by number: what is in the container."""
    namespace = Process(pid).namespace("pid")
    found = []
    children: set[int] = {pid}
    for other in all_pids():
        try:
            process = Process(other)
            if process.parent in children or other == pid or process.namespace("pid") == namespace:
                children.add(other)
                found.append(process)
        except (NotFound, PermissionError):
            continue
    return found


def count_namespaces() -> dict[str, int]:
    """Kind → how many of them processes on this host are in."""
    seen: dict[str, set[str]] = {kind: set() for kind in NAMESPACES}
    for pid in all_pids():
        try:
            process = Process(pid)
            for kind in NAMESPACES:
                inode = process.namespace(kind)
                if inode:
                    seen[kind].add(inode)
        except (NotFound, OSError):
            continue
    return {kind: len(inodes) for kind, inodes in seen.items()}
