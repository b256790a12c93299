"""What happens in the engine, as `docker events` shows it: the last 256 events and everybody who listens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sampan.engine import filters as match
from sampan.engine.filters import Filters
from sampan.engine.timestamps import SECOND

KEPT = 256  # Docker's ring
BEHIND = 8192  # a listener this many events behind is let go; it may come back with `since`
ACCEPTED = frozenset({
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
})
_WITH_COLON = frozenset({"health_status", "exec_create", "exec_start"})  # their action goes on after a colon

Event = dict[str, Any]


class Events:
    """Publishing never waits and never fails, whatever the listeners do."""

    def __init__(self) -> None:
        self._past: deque[Event] = deque(maxlen=KEPT)
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._last = 0

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Tell everybody. `type` is container, image, volume, network, builder or daemon; `action` Docker's verb."""
        # Two events of one clock tick stay distinguishable and sorted, so that `since` loses none.
        self._last = max(time.time_ns(), self._last + 1)
        event = message(type, action, id, dict(attributes or {}), self._last)
        self._past.append(event)
        for listener in list(self._listeners):
            if listener.full():
                self._listeners.discard(listener)
                listener.get_nowait()
                listener.put_nowait(None)
            else:
                listener.put_nowait(event)

    def subscribe(
        self, since: int | None = None, until: int | None = None, filters: Filters | None = None
    ) -> AsyncIterator[Event]:
        """Past events (when `since` or `until`, nanoseconds, is given), then new ones up to `until`, else for ever.

        Listening begins with this call, not with the first step of the iterator: nothing in between is lost.
        Close the iterator (`aclose`) to stop. Raises InvalidArgument for an unknown filter.
        """
        filters = filters or {}
        match.check(filters, ACCEPTED)
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BEHIND)
        past = self._replay(since, until)
        self._listeners.add(queue)
        return _Subscription(self._listeners, queue, past, until, filters)

    def _replay(self, since: int | None, until: int | None) -> deque[Event]:
        if since is None and until is None:
            return deque()
        return deque(
            event for event in self._past
            if (since is None or event["timeNano"] >= since) and (until is None or event["timeNano"] <= until)
        )


class _Subscription(AsyncIterator[Event]):
    def __init__(
        self, listeners: set[asyncio.Queue[Event | None]], queue: asyncio.Queue[Event | None], past: deque[Event],
        until: int | None, filters: Filters,
    ) -> None:
        self._listeners = listeners
        self._queue = queue
        self._past = past
        self._until = until
        self._filters = filters

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> Event:
        while (event := await self._next()) is not None:
            if included(event, self._filters):
                return event
        await self.aclose()
        raise StopAsyncIteration

    async def _next(self) -> Event | None:
        if self._past:
            return self._past.popleft()
        if self._until is None:
            return await self._queue.get()
        left = (self._until - time.time_ns()) / SECOND
        try:
            async with asyncio.timeout(max(left, 0)):
                event = await self._queue.get()
        except TimeoutError:
            return None
        return event if event is None or event["timeNano"] <= self._until else None

    async def aclose(self) -> None:
        self._listeners.discard(self._queue)


def message(type: str, action: str, id: str, attributes: dict[str, str], nanoseconds: int) -> Event:
    """An event in the Engine API's schema, with the three fields of API 1.21 that old clients still read."""
    event: Event = {}
    if type in ("container", "image"):
        event |= {"status": action, "id": id}
    if type == "container" and "image" in attributes:
        event["from"] = attributes["image"]
    return event | {
        "Type": type, "Action": action, "Actor": {"ID": id, "Attributes": attributes}, "scope": "local",
        "time": nanoseconds // SECOND, "timeNano": nanoseconds,
    }


def included(event: Event, filters: Filters) -> bool:
    """Does the event pass all filters?"""
    if not filters:
        return True
    attributes = event["Actor"]["Attributes"]
    names = (event["Actor"]["ID"], attributes.get("name", ""))
    return (
        _action(event["Action"], filters)
        and match.exact(filters, "type", event["Type"])
        and match.exact(filters, "scope", event["scope"])
        and match.labels(filters, attributes)
        and _image(event, filters)
        and all(
            match.prefix(filters, kind, *names)
            for kind in ("config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume")
        )
    )


def _action(action: str, filters: Filters) -> bool:
    if _WITH_COLON & set(filters.get("event", ())):
        return match.prefix(filters, "event", action)
    return match.exact(filters, "event", action)


def _image(event: Event, filters: Filters) -> bool:
    """An image event is found by its id or name, a container's by the name of its image; the tag may be left out."""
    if not filters.get("image"):
        return True
    name = event["Actor"]["Attributes"].get("name" if event["Type"] == "image" else "image", "")
    untagged = name.rpartition(":")[0] if "/" not in name.rpartition(":")[2] else name
    return any(match.exact(filters, "image", text) for text in (event["Actor"]["ID"], name, untagged) if text)
