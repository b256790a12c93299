"""The cpus and memory nodes of a container, as `events` shows them."""

from __future__ import annotations

from sampan.linux import number_list
from sampan.linux.cgroup.cgroupfs import UNIFIED
from sampan.linux.cgroup.controlfile import number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 8192  # the kernel's largest NR_CPUS
_V1 = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)
"""Switches and figures of cpuset(7) besides the lists, each a file of that name."""


def read(paths: Mapping[str, str]) -> dict[str, object]:
    """`paths` as of Group.paths. v2 has the lists alone; what is not there is 0 or empty."""
    directory = paths.get("cpuset", "")
    v1 = bool(directory)
    directory = directory or paths.get(UNIFIED, "")
    shown: dict[str, object] = {}
    for name in ("cpus", "mems"):
        listed = text(directory, f"cpuset.{name}").strip() or text(directory, f"cpuset.{name}.effective").strip()
        if listed:
            shown[name] = sorted(number_list.parse(listed, _MOST, f"cpuset.{name}"))
    for name in _V1:
        shown[name] = (number(directory, f"cpuset.{name}") or 0) if v1 else 0
    if v1 and (level := text(directory, "cpuset.sched_relax_domain_level").strip()):
        shown["sched_relax_domain_level"] = int(level)
    return shown

