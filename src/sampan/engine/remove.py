"""Removing containers: one, and all that have ended."""

from __future__ import annotations

from typing import Any

from sampan.engine import filters as match
from sampan.engine import lifecycle, stop, timestamps
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.filters import Filters
from sampan.engine.lifetime import Lifetime
from sampan.errors import InvalidArgument, NotFound


async def remove(ctx: Context, life: Lifetime, container: Container, force: bool, volumes: bool) -> None:
    """Raises Conflict for a running container without `force`, NotFound when somebody else was faster."""
    if not force:
        container.check("remove")
    async with container.lock:
        if container.id not in ctx.index:
            raise NotFound(f"No such container: {container.id}")
        if not force:
            container.check("remove")
        record = container.record
        record.stopped_by_user = True
        life.cancel_restart(container)
        container.removals += 1
    try:
        await stop.end(ctx, container)
        if container.id in ctx.index:  # --rm has done it otherwise
            life.discard(container, volumes)
    finally:
        container.removals -= 1


async def prune(ctx: Context, life: Lifetime, filters: Filters) -> dict[str, Any]:
    """`POST /containers/prune`: all that do not run; `{"ContainersDeleted", "SpaceReclaimed"}`."""
    match.check(filters, {"until", "label", "label!"})
    if len(filters.get("until", ())) > 1:
        raise InvalidArgument("more than one until filter specified")
    until = min((timestamps.parse(text) for text in filters.get("until", ())), default=None)
    doomed = [it for it in ctx.index if _ended(it) and _passes(it, filters, until)]
    deleted, size = [], 0
    for container in doomed:
        answer = await ctx.worker.run("image.tree_size", {"path": f"{ctx.directory(container.id)}/upper"})
        if container.id in ctx.index and _ended(container):
            life.discard(container, volumes=False)
            deleted.append(container.id)
            size += int(answer["size"])
    ctx.events.publish("container", "prune", "", {"reclaimed": str(size)})
    return {"ContainersDeleted": deleted or None, "SpaceReclaimed": size}


def _ended(container: Container) -> bool:
    return (
        container.record.status in (lifecycle.CREATED, lifecycle.EXITED, lifecycle.DEAD)
        and not container.lock.locked() and not container.record.internal
    )


def _passes(container: Container, filters: Filters, until: int | None) -> bool:
    labels = container.record.config.get("Labels")
    return (
        (until is None or container.record.created < until)
        and match.labels(filters, labels) and match.labels(filters, labels, "label!")
    )

