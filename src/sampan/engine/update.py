"""`docker update`: other limits, at once if the container runs, and another restart policy."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.engine import hostconfig, limits, restart
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.spec import resources
from sampan.errors import Conflict, InvalidArgument, SampanError
from sampan.linux.cgroup import Group
from sampan.oci.runtime import Resources

_LIMITS = (
    "BlkioWeight", "CpuPeriod", "CpuQuota", "CpuShares", "CpusetCpus", "CpusetMems", "Memory", "MemoryReservation",
    "MemorySwap", "NanoCpus", "PidsLimit",
)


async def update(ctx: Context, container: Container, body: dict[str, Any]) -> dict[str, Any]:
    """`{"Warnings"}`. All of it or nothing. Raises InvalidArgument, Conflict; the kernel's refusal too."""
    asked = hostconfig.convert(body, hostconfig.HostConfig, "update")
    async with container.lock:
        container.check("update")
        record = container.record
        changed = {name: asked[name] for name in _LIMITS if asked.get(name)}
        merged = dict(record.host_config) | changed
        _fit(merged, changed)
        policy = asked.get("RestartPolicy")
        if policy and policy.get("Name"):
            if record.auto_remove:
                raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
            merged["RestartPolicy"] = restart.check(policy)
        warnings = limits.check(merged) + resources.warnings(merged, ctx.facts.features)
        if changed and container.alive:
            warnings += await _apply(ctx, container, resources.make(_effective(merged, changed)))
        record.host_config = merged
        ctx.save(container)
    ctx.publish(container, "update")
    return {"Warnings": warnings or None}


async def _apply(ctx: Context, container: Container, changed: Resources) -> list[str]:
    """In a thread: a lower memory limit makes the kernel free memory first, for seconds if it has to write it."""
    shim = container.shim
    try:
        if container.record.runtime and shim is not None:
            await shim.command("update", changed)
            return []
        group = Group.open(ctx.cgroups, ctx.cgroup_path(container.record))
        return await asyncio.to_thread(group.apply, changed)
    except (SampanError, OSError):
        if shim is None or shim.ended:
            return []  # it has ended meanwhile: the next start has the new limits
        raise


def _fit(merged: dict[str, Any], changed: dict[str, Any]) -> None:
    """What one limit means for another, by Docker's rules. Raises Conflict, InvalidArgument."""
    if "NanoCpus" in changed:
        if merged["CpuQuota"] or merged["CpuPeriod"]:
            raise Conflict("Conflicting options: NanoCPUs cannot be updated as CPU Period or CPU Quota has been set")
    elif (changed.get("CpuPeriod") or changed.get("CpuQuota")) and merged["NanoCpus"]:
        raise Conflict(
            "Conflicting options: CPU Period or CPU Quota cannot be updated as NanoCPUs has already been set"
        )
    if "Memory" in changed and "MemorySwap" not in changed and 0 < merged["MemorySwap"] < merged["Memory"]:
        raise InvalidArgument(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if changed.get("PidsLimit", 0) < 0:
        merged["PidsLimit"] = None


def _effective(merged: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """What to write: the changed limits, and of memory and its swap both, because the kernel compares them."""
    names = {*changed, *(("Memory", "MemorySwap") if {"Memory", "MemorySwap"} & changed.keys() else ())}
    return {name: changed.get(name, merged[name]) for name in names}
