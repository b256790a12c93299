"""Building images: the builder, told to the world, and its cache."""

from __future__ import annotations

import time
from typing import Any

from sampan.build.builder import Builder
from sampan.build.options import BuildOptions
from sampan.build.progress import Emit, failure
from sampan.engine import filters as match
from sampan.engine import timestamps
from sampan.engine.events import Events
from sampan.engine.filters import Filters
from sampan.engine.images import Images
from sampan.errors import InvalidArgument
from sampan.image import reference

__all__ = ["BuildOptions", "Builds", "failure"]


class Builds:
    """Several builds may run at once; each belongs to its caller, whose cancellation ends it."""

    def __init__(self, builder: Builder, images: Images, events: Events) -> None:
        self._builder = builder
        self._images = images
        self._events = events

    async def build(self, options: BuildOptions, context_fd: int, emit: Emit) -> str:
        """Build an image; its id. `context_fd`, the caller's: a tar stream or a directory.

        Docker's progress messages go to `emit`. Errors are raised; `failure` makes the stream's last message of one.
        """
        image_id = await self._builder.build(options, context_fd, emit)
        for name in options.tags:
            self._events.publish("image", "tag", image_id, {"name": reference.parse_tag(name).familiar})
        return image_id

    def cache(self) -> list[dict[str, Any]]:
        """The finished steps that later builds may use again, as `GET /system/df` lists them."""
        return self._builder.cache.records()

    async def prune(self, filters: Filters | None = None, all: bool = False) -> dict[str, Any]:
        """`POST /build/prune`: forget steps that no image has come of, with `all` every step. Frees their layers."""
        filters = filters or {}
        match.check(filters, {"id", "until", "unused-for"})
        cache = self._builder.cache
        keys = {step.key for step in cache.steps() if match.prefix(filters, "id", step.key)}
        if not all:
            kept = self._images.layers()
            keys -= {step.key for step in cache.steps() if {layer.diff_id for layer in step.layers} <= kept}
        gone = cache.prune(_unused_since(filters), sorted(keys))
        reclaimed = await self._images.sweep() if gone else 0
        self._events.publish("builder", "prune", "", {"reclaimed": str(reclaimed)})
        return {"CachesDeleted": [step.key[:24] for step in gone] or None, "SpaceReclaimed": reclaimed}


def _unused_since(filters: Filters) -> float | None:
    """Seconds since the epoch."""
    moments = [*filters.get("until", ()), *filters.get("unused-for", ())]
    if not moments:
        return None
    if len(moments) > 1:
        raise InvalidArgument("filters expect only one value")
    return timestamps.parse(moments[0], time.time_ns()) / timestamps.SECOND
