"""`docker rename`."""

from __future__ import annotations

from sampan.engine import names
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import InvalidArgument


async def rename(ctx: Context, container: Container, new: str) -> None:
    """Raises InvalidArgument, Conflict for a name that is taken."""
    if not new:
        raise InvalidArgument("Neither old nor new names may be empty")
    name = names.check(new)
    async with container.lock:
        container.check("rename")
        old = container.name
        if name == old:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        ctx.index.reserve(name, container.id)
        container.record.name = name
        try:
            ctx.save(container)
        except BaseException:
            container.record.name = old
            ctx.index.release(name, container.id)
            raise
        ctx.index.release(old, container.id)
    ctx.publish(container, "rename", oldName=f"/{old}")
