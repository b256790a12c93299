"""Events: the ring, listeners, filters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.engine.events import BEHIND, KEPT, Events, included, message
from sampan.errors import InvalidArgument


async def _collect(stream: Any) -> list[dict[str, Any]]:
    return [event async for event in stream]


def test_shape_is_dockers() -> None:
    event = message("container", "start", "abc", {"image": "busybox", "name": "web"}, 1_700_000_000_123_456_789)
    assert event == {
        "status": "start", "id": "abc", "from": "busybox", "Type": "container", "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"image": "busybox", "name": "web"}}, "scope": "local",
        "time": 1_700_000_000, "timeNano": 1_700_000_000_123_456_789,
    }
    assert "status" not in message("network", "connect", "n", {}, 1)


def test_a_listener_gets_only_what_comes_after_it_listened() -> None:
    async def play() -> None:
        events = Events()
        events.publish("image", "tag", "old")
        stream = events.subscribe()
        events.publish("image", "tag", "new")
        assert (await anext(stream))["id"] == "new"
        await stream.aclose()  # type: ignore[attr-defined]
        assert events.listeners == 0

    asyncio.run(play())


def test_since_replays_the_past_and_until_ends_the_stream() -> None:
    async def play() -> None:
        events = Events()
        for number in range(KEPT + 10):
            events.publish("image", "tag", str(number))
        seen = await _collect(events.subscribe(since=0, until=events._past[-1]["timeNano"]))
        assert [event["id"] for event in seen] == [str(number) for number in range(10, KEPT + 10)]
        half = seen[100]["timeNano"]
        assert len(await _collect(events.subscribe(since=half, until=seen[-1]["timeNano"]))) == KEPT - 100
        assert len(await _collect(events.subscribe(until=half))) == 101
        assert events.listeners == 0

    asyncio.run(play())


def test_a_listener_that_falls_behind_is_let_go_after_what_it_has() -> None:
    async def play() -> None:
        events = Events()
        stream = events.subscribe()
        for number in range(BEHIND + 5):
            events.publish("image", "tag", str(number))
        assert events.listeners == 0
        seen = await _collect(stream)
        assert len(seen) == BEHIND - 1 and seen[-1]["id"] == str(BEHIND - 1)

    asyncio.run(play())


def test_timestamps_never_repeat() -> None:
    events = Events()
    for _ in range(KEPT):
        events.publish("image", "tag", "x")
    assert len({event["timeNano"] for event in events._past}) == KEPT


@pytest.mark.parametrize(("filters", "expected"), [
    ({}, True),
    ({"type": ["container"]}, True),
    ({"type": ["image", "volume"]}, False),
    ({"event": ["start", "die"]}, True),
    ({"event": ["sta"]}, False),
    ({"container": ["we"]}, True),
    ({"container": ["abc"]}, True),
    ({"container": ["eb"]}, False),
    ({"image": ["reg:5000/busybox"]}, True),
    ({"image": ["reg:5000/busybox:1"]}, True),
    ({"image": ["reg"]}, False),
    ({"label": ["tier"]}, True),
    ({"label": ["tier=front", "name"]}, True),
    ({"label": ["tier=back"]}, False),
    ({"scope": ["swarm"]}, False),
])
def test_filters(filters: dict[str, list[str]], expected: bool) -> None:
    attributes = {"image": "reg:5000/busybox:1", "name": "web", "tier": "front"}
    assert included(message("container", "start", "abcdef", attributes, 1), filters) is expected


def test_exec_events_are_found_without_what_follows_the_colon() -> None:
    event = message("container", "exec_start: sh -c true", "abc", {}, 1)
    assert included(event, {"event": ["exec_start"]})
    assert not included(event, {"event": ["exec_create"]})


def test_an_unknown_filter_is_named() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        Events().subscribe(filters={"colour": ["red"]})
