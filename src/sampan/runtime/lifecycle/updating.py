"""Update: other limits for a container that is there."""

from __future__ import annotations

import os

from sampan.errors import Conflict, SampanError, Unsupported
from sampan.lean.structs import convert, encode, to_builtins
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroup import Group
    from sampan.runtime.lifecycle.records import Entry

_RDT_L3, _RDT_BANDWIDTH = "/sys/fs/resctrl/info/L3", "/sys/fs/resctrl/info/MB"

_ZERO_IS_NOTHING = {
    "memory": ("limit", "reservation", "swap", "kernel", "kernelTCP"),
    "cpu": ("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"), "pids": ("limit",),
    "blockIO": ("weight", "leafWeight"),
}
"""What Docker sends as 0 for "leave it as it is"; runc, too, takes it as not given."""

_THROTTLES = ("throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice")


def update(entry: Entry, wanted: oci.Resources) -> list[str]:
    """Set what `wanted` names, leave the rest; devices are never touched. Returns warnings.

    What the kernel refuses half-way is undone: what `wanted` names is again as the spec has it, or as in a new group
    (`undoing`). The new ones are written down with the container's spec. Raises Conflict when it does not run,
    InvalidArgument for a limit that cannot be.
    """
    entry.lock()
    record = entry.read()
    if status.of(entry, record) == status.STOPPED:
        raise Conflict("container not running")
    group = entry.group(record)
    if group is None:
        raise Unsupported(f"container {entry.id} has no cgroup of its own: it has no limits to update")
    spec = entry.spec()
    assert spec.linux is not None
    before = spec.linux.resources or oci.Resources()
    wanted = completed(before, wanted)
    old = undoing(before, wanted, _never_set(group))
    old.unified = old.unified | _as_they_are(group, wanted)
    try:
        warnings = group.apply(wanted)
    except (SampanError, OSError):
        _restore(group, old)
        raise
    spec.linux.resources = merge(before, wanted)
    entry.write_file("config.json", encode(spec))
    return warnings


def completed(before: oci.Resources, wanted: oci.Resources) -> oci.Resources:
    """`wanted` without devices, and without what says nothing; it must not be taken for a limit that was written down.

    With the shares that the spec gave to what is idle no longer: the kernel has forgotten them.
    """
    parts = to_builtins(wanted)
    parts.pop("devices", None)
    for part, names in _ZERO_IS_NOTHING.items():
        if part in parts:
            parts[part] = {name: value for name, value in parts[part].items() if value or name not in names}
    cpu = parts.get("cpu", {})
    if cpu.get("idle") == 0 and before.cpu is not None and before.cpu.shares:
        cpu.setdefault("shares", before.cpu.shares)
    return convert(parts, type=oci.Resources)


def undoing(before: oci.Resources, wanted: oci.Resources, unset: dict[str, dict[str, object]]) -> oci.Resources:
    """What takes `wanted` back: for each part that it names the spec's own limits, `before`, and for members that were
    never set those in `unset`. Of weights and swappiness nothing is known but what the spec says.
    """
    had, asked = to_builtins(before), to_builtins(wanted)
    old = {part: had[part] for part in asked if part in had}
    for part in unset.keys() & asked.keys():
        known = {name: value for name, value in had.get(part, {}).items() if value}  # 0 is "not given"
        old[part] = {name: unset[part][name] for name in asked[part] if name in unset[part]} | known
    if "blockIO" in asked:
        old["blockIO"] = {**old.get("blockIO", {})}
        for name in _THROTTLES:
            free = [device | {"rate": 0} for device in asked["blockIO"].get(name, [])]
            old["blockIO"][name] = free + old["blockIO"].get(name, [])
    return convert(old, type=oci.Resources)


def _never_set(group: Group) -> dict[str, dict[str, object]]:
    """The limits of a group that nobody limited, as the spec writes them. Its cpuset came from above: it is read."""
    unset: dict[str, dict[str, object]] = {
        "memory": {"limit": -1, "swap": -1},
        "cpu": {"shares": 1024, "quota": -1, "period": 100_000, "burst": 0, "idle": 0},
        "pids": {"limit": -1},
    }
    unset["cpu"] |= {name: group.cpuset(name) for name in ("cpus", "mems")}
    if group.host.mode != "v2":  # there it is memory.low, and the default none
        unset["memory"]["reservation"] = -1
    return unset


def _as_they_are(group: Group, wanted: oci.Resources) -> dict[str, str]:
    """v2's own files that `wanted` names. memory.low as well: none of it, as in a new group, is no number in a spec.

    And a cpuset that was never set, which is empty.
    """
    if group.host.mode != "v2":
        return {}
    names = [*wanted.unified]
    if wanted.memory is not None and wanted.memory.reservation:
        names.append("memory.low")
    found = {name: value for name in names if (value := group.setting(name))}
    if wanted.cpu is not None:
        asked = {"cpus": wanted.cpu.cpus, "mems": wanted.cpu.mems}
        found |= {f"cpuset.{which}": "" for which, value in asked.items() if value and not group.cpuset(which)}
    return found


def _restore(group: Group, old: oci.Resources) -> None:
    """Part by part, as far as it goes: the refusal is what the caller hears of."""
    for part, members in to_builtins(old).items():
        try:
            group.apply(convert({part: members}, type=oci.Resources))
        except (SampanError, OSError):
            pass  # what was possible once (a memory limit below what is in use now) need not be so again


def merge(before: oci.Resources, wanted: oci.Resources) -> oci.Resources:
    """`before` with every member that `wanted` sets."""
    merged = to_builtins(before)
    for part, members in to_builtins(wanted).items():
        there = merged.get(part)
        merged[part] = there | members if isinstance(there, dict) and isinstance(members, dict) else members
    return convert(merged, type=oci.Resources)


def check_rdt(l3_cache_schema: str, memory_bandwidth_schema: str) -> None:
    """Raises Unsupported, in runc's words, for a schema this machine has no Intel RDT for (resctrl.rst)."""
    if l3_cache_schema and not os.path.isdir(_RDT_L3):
        raise Unsupported("Intel RDT/CAT: l3 cache schema is not enabled")
    if memory_bandwidth_schema and not os.path.isdir(_RDT_BANDWIDTH):
        raise Unsupported("Intel RDT/MBA: memory bandwidth schema is not enabled")
