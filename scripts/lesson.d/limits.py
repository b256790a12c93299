"""A process's cgroups as the kernel shows them, on v1, v2 and hybrid hosts, under one set of names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

V1_FILES = {
    "memory": ("memory", "memory.limit_in_bytes"),
    "cpu": ("cpu", "cpu.cfs_quota_us"),
    "period": ("cpu", "cpu.cfs_period_us"),
    "cpuset": ("cpuset", "cpuset.cpus"),
    "pids": ("pids", "pids.max"),
    "pids_now": ("pids", "pids.current"),
    "usage": ("cpuacct", "cpuacct.usage"),
    "throttled": ("cpu", "cpu.stat"),
}
V2_FILES = {
    "memory": "memory.max", "cpu": "cpu.max", "period": "cpu.max", "cpuset": "cpuset.cpus", "pids": "pids.max",
    "pids_now": "pids.current", "usage": "cpu.stat", "throttled": "cpu.stat",
}


@dataclass(frozen=True)
class Groups:
    """Where a process's groups are. `find` gives a control file's path, None when no hierarchy has the controller."""

    v1: dict[str, Path]
    v2: Path | None

    @classmethod
    def of(cls, pid: int) -> Groups:
        mounts = dict(_mounts())
        v1: dict[str, Path] = {}
        v2 = None
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                if controller in mounts and path != "/":  # in a hierarchy's root: not limited, not counted there
                    place = Path(mounts[controller] + path)
                    if controller:
                        v1[controller] = place
                    else:
                        v2 = place
        return cls(v1, v2)

    def find(self, name: str) -> Path | None:
        controller, file = V1_FILES[name]
        if controller in self.v1:
            return self.v1[controller] / file
        if self.v2 is not None and (self.v2 / V2_FILES[name]).exists():
            return self.v2 / V2_FILES[name]
        return None

    def read(self, name: str) -> str:
        path = self.find(name)
        return path.read_text().strip() if path else ""

    def cpus(self) -> float:
        """The quota, in CPUs."""
        quota, period = self.read("cpu"), self.read("period")
        if " " in quota:
            quota, period = quota.split()
        return int(quota) / int(period) if quota.lstrip("-").isdigit() else float("inf")

    def used_seconds(self) -> float:
        """CPU time that all of the group's processes have used, by the group's own accounting."""
        path, text = self.find("usage"), self.read("usage")
        if path is not None and path.name == "cpuacct.usage":
            return int(text) / 1e9
        return _field(text, "usage_usec") / 1e6

    def times_throttled(self) -> int:
        return _field(self.read("throttled"), "nr_throttled")


def _field(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")), 0)


def _mounts() -> list[tuple[str, str]]:
    """(controller, mount point); "" stands for cgroup v2."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, options = line.split()[:4]
        if kind == "cgroup2":
            found.append(("", point))
        elif kind == "cgroup":
            found += [(option, point) for option in options.split(",")]
    return found
