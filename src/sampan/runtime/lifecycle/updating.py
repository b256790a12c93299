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
_PARTS = ("memory", "cpu", "pids", "block_io")


def update(entry: Entry, wanted: oci.Resources) -> list[str]:
    """Set what `wanted` names, leave the rest; devices are never touched. Returns warnings.

    What the kernel refuses half-way is undone with the limits that were there before, as far as they were ever set.
    The new ones are written down with the container's spec. Raises Conflict when it does not run, InvalidArgument for
    a limit that cannot be.
    """
    entry.lock()
    record = entry.read()
    if status.of(entry, record) == status.STOPPED:
        raise Conflict("container not running")
    group = entry.group(record)
    if group is None:
        raise Unsupported(f"container {entry.id} has no cgroup of its own: it has no limits to update")
    wanted.devices = []
    spec = entry.spec()
    assert spec.linux is not None
    before = spec.linux.resources or oci.Resources()
    try:
        warnings = group.apply(wanted)
    except (SampanError, OSError):
        _restore(group, before, wanted)
        raise
    spec.linux.resources = merge(before, wanted)
    entry.write_file("config.json", encode(spec))
    return warnings


def _restore(group: Group, before: oci.Resources, wanted: oci.Resources) -> None:
    """As far as it goes: the refusal is what the caller hears of."""
    touched = {part: getattr(before, part) for part in _PARTS if getattr(wanted, part) is not None}
    try:
        group.apply(oci.Resources(**touched))
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
