"""Pause and unpause: the cgroup's freezer (in a thread: it may take a while when a process is busy in the kernel), or
what another runtime has for it.
"""

from __future__ import annotations

import asyncio

from sampan.engine import lifecycle
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import Conflict, SampanError
from sampan.linux.cgroup import Group


async def pause(ctx: Context, container: Container) -> None:
    """Raises Conflict for a container that does not run or is paused, Unavailable if it cannot be frozen."""
    async with container.lock:
        container.check("pause")
        if container.kills:
            raise Conflict(f"container {container.id} is not running")
        shim = container.shim
        try:
            await _freeze(ctx, container)
        except (SampanError, OSError) as error:
            if shim is None or shim.ended:
                raise Conflict(f"container {container.id} is not running") from error
            raise
        if container.record.status != lifecycle.RUNNING:
            return  # killed while it froze
        container.move(lifecycle.PAUSED)
        ctx.save(container)
        ctx.publish(container, "pause")


async def unpause(ctx: Context, container: Container) -> None:
    """Raises Conflict for a container that is not paused."""
    async with container.lock:
        container.check("unpause")
        await _thaw(ctx, container)


async def thaw_for_signal(ctx: Context, container: Container) -> None:
    """A frozen process sees no signal, on a v1 host not even SIGKILL. Nor does one that is just being frozen."""
    async with container.lock:
        if container.record.status == lifecycle.PAUSED:
            await _thaw(ctx, container)


async def _thaw(ctx: Context, container: Container) -> None:
    shim = container.shim
    try:
        await _unfreeze(ctx, container)
    except (SampanError, OSError):
        if shim is not None and not shim.ended:
            raise
    if container.record.status != lifecycle.PAUSED:
        return  # killed meanwhile
    container.move(lifecycle.RUNNING)
    ctx.save(container)
    ctx.publish(container, "unpause")


async def _freeze(ctx: Context, container: Container) -> None:
    if container.record.runtime and container.shim is not None:
        await container.shim.command("pause")
    else:
        await asyncio.to_thread(_group(ctx, container).freeze)


async def _unfreeze(ctx: Context, container: Container) -> None:
    if container.record.runtime and container.shim is not None:
        await container.shim.command("resume")
    else:
        await asyncio.to_thread(_group(ctx, container).thaw)


def _group(ctx: Context, container: Container) -> Group:
    return Group.open(ctx.cgroups, ctx.cgroup_path(container.record))
