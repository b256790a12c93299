"""`docker ps`: from memory, whatever the containers are doing."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sampan.engine import duration, inspection, lifecycle, networking, timestamps
from sampan.engine import filters as match
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.filters import Filters
from sampan.engine.record import Record
from sampan.errors import InvalidArgument, NotFound, SampanError

_ACCEPTED = frozenset({
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
})
_NAME_PATTERN = re.compile(r"\^?(?:/\??)?(?:[a-zA-Z0-9_-]|\\?\.\*?){0,255}\$?")
_MOST_STARS = 4  # more of ".*" in one pattern take too long on a name that almost matches


def summaries(ctx: Context, all: bool, limit: int | None, filters: Filters) -> list[dict[str, Any]]:
    """`GET /containers/json`, newest first. Raises InvalidArgument, NotFound (`before`, `since`)."""
    chosen = select(ctx, all, limit, filters)
    now = time.time_ns()
    return [summary(ctx, container.record, now) for container in chosen]


def select(ctx: Context, all: bool, limit: int | None, filters: Filters) -> list[Container]:
    match.check(filters, _ACCEPTED)
    for status in filters.get("status", ()):
        if status not in lifecycle.STATES:
            raise InvalidArgument(f"invalid filter 'status={status}'")
    limit = limit if limit is not None and limit > 0 else 0
    wanted = _Wanted(ctx, filters)
    everything = all or limit or "status" in filters or "exited" in filters
    newest = sorted(
        (it for it in ctx.index if not it.record.internal), key=lambda it: (it.record.created, it.id), reverse=True
    )
    chosen = [
        it for it in newest
        if (everything or it.alive or it.record.status == lifecycle.RESTARTING) and wanted.passes(it)
    ]
    return chosen[:limit] if limit else chosen


class _Wanted:
    """The filters of one request, looked up once."""

    def __init__(self, ctx: Context, filters: Filters) -> None:
        self._filters = filters
        self._names = [_pattern(text) for text in filters.get("name", ())]
        self._before = [ctx.index.find(ref).record.created for ref in filters.get("before", ())]
        self._since = [ctx.index.find(ref).record.created for ref in filters.get("since", ())]
        self._exited = {_number(text) for text in filters.get("exited", ())}
        self._ancestors = _ancestors(ctx, filters.get("ancestor", ()))
        self._ports = {key: _ports(filters.get(key, ())) for key in ("publish", "expose")}

    def passes(self, container: Container) -> bool:
        record, filters = container.record, self._filters
        return (
            match.prefix(filters, "id", record.id)
            and (not self._names or any(name.search(f"/{record.name}") for name in self._names))
            and match.labels(filters, record.config.get("Labels"))
            and match.exact(filters, "status", record.status)
            and record.created < min(self._before, default=1 << 63)
            and record.created > max(self._since, default=-1)
            and (not self._exited or (record.status == lifecycle.EXITED and record.exit_code in self._exited))
            and (self._ancestors is None or record.image in self._ancestors)
            and match.exact(filters, "health", "none") and match.boolean(filters, "is-task", False) is False
            and match.exact(filters, "isolation", "default")
            and (not filters.get("network") or networking.mode(record) in filters["network"])
            and self._has_volume(record) and self._has_ports(record)
        )

    def _has_volume(self, record: Record) -> bool:
        wanted = self._filters.get("volume")
        return not wanted or any(text in (it.name, it.destination) for it in record.mounts for text in wanted)

    def _has_ports(self, record: Record) -> bool:
        published = {(port.container_port, port.proto) for port in record.ports}
        exposed = {networking.parse_port(text) for text in record.config.get("ExposedPorts") or ()}
        return (
            (not self._ports["publish"] or bool(self._ports["publish"] & published))
            and (not self._ports["expose"] or bool(self._ports["expose"] & exposed))
        )


def _pattern(text: str) -> re.Pattern[str]:
    """Docker takes a regular expression. Here: text, anchors, "." and ".*", "|" between; that cannot backtrack."""
    parts = text.split("|")
    if len(text) > 1024 or text.count("*") > _MOST_STARS or not all(_NAME_PATTERN.fullmatch(part) for part in parts):
        raise InvalidArgument(f"invalid filter 'name={text[:100]}': use text, '^', '$', '.', '.*' and '|' alone")
    # The names have a slash in front; "^web" means their beginning all the same.
    return re.compile("|".join(re.sub(r"^\^(?!/)", "^/?", part) for part in parts))


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 5:
        raise InvalidArgument(f"invalid filter 'exited={text}'")
    return int(text)


def _ports(texts: Iterable[str]) -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for text in texts:
        numbers, _, proto = text.partition("/")
        first, _, last = numbers.partition("-")
        low, _ = networking.parse_port(f"{first}/{proto or 'tcp'}")
        high, _ = networking.parse_port(f"{last or first}/{proto or 'tcp'}")
        found |= {(number, proto or "tcp") for number in range(low, high + 1)}
    return found


def _ancestors(ctx: Context, refs: Sequence[str]) -> set[str] | None:
    """The images meant, and all that were made from them; None when nobody asked."""
    if not refs:
        return None
    found: set[str] = set()
    for ref in refs:
        try:
            found.add(ctx.store.resolve(ref).id)
        except NotFound:
            continue
    images = ctx.store.images()
    tops = {layers[-1]: layers for image in images if image.id in found and (layers := _layers(image))}
    for image in images:
        layers = _layers(image)
        if any(layers[: len(base)] == base for base in tops.values()):
            found.add(image.id)
    return found


def _layers(image: Any) -> list[str]:
    return [layer.diff_id for layer in image.layers]


def summary(ctx: Context, record: Record, now: int) -> dict[str, Any]:
    command = shlex.join([record.path, *record.args]) if record.args else record.path
    return {
        "Id": record.id, "Names": [f"/{record.name}"], "Image": _image(ctx, record), "ImageID": record.image,
        "Command": command, "Created": record.created // timestamps.SECOND, "Ports": ports(record),
        "Labels": record.config.get("Labels") or {}, "State": record.status, "Status": status(record, now),
        "HostConfig": {"NetworkMode": record.host_config["NetworkMode"]},
        "NetworkSettings": {"Networks": inspection.networks(ctx, record)},
        "Mounts": inspection.mounts(record),
    }


def _image(ctx: Context, record: Record) -> str:
    """As the user said it, while that still means the container's image; else the image's id."""
    try:
        same = ctx.store.resolve(record.image_name).id == record.image
    except SampanError:
        same = False
    return record.image_name if same else record.image


def ports(record: Record) -> list[dict[str, Any]]:
    """Published and merely exposed ports."""
    found: list[dict[str, Any]] = [
        {"IP": port.host_ip, "PrivatePort": port.container_port, "PublicPort": port.host_port, "Type": port.proto}
        for port in record.ports
    ]
    published = {(port.container_port, port.proto) for port in record.ports}
    if record.status in lifecycle.ALIVE:
        for text in record.config.get("ExposedPorts") or ():
            number, proto = networking.parse_port(text)
            if (number, proto) not in published:
                found.append({"PrivatePort": number, "Type": proto})
    return found


def status(record: Record, now: int) -> str:
    """"Up 5 minutes", "Exited (0) 2 hours ago"."""
    if record.status in lifecycle.ALIVE:
        up = f"Up {duration.words((now - timestamps.parse(record.started_at)) / timestamps.SECOND)}"
        return f"{up} (Paused)" if record.status == lifecycle.PAUSED else up
    if record.status in (lifecycle.EXITED, lifecycle.RESTARTING) and record.finished_at != timestamps.ZERO:
        ago = duration.words((now - timestamps.parse(record.finished_at)) / timestamps.SECOND)
        word = "Restarting" if record.status == lifecycle.RESTARTING else "Exited"
        return f"{word} ({record.exit_code}) {ago} ago"
    return {lifecycle.REMOVING: "Removal In Progress", lifecycle.DEAD: "Dead"}.get(record.status, "Created")
