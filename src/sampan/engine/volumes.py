"""Named volumes of the local driver: a directory each, DATA_ROOT/volumes/NAME/_data, and a record in the state."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sampan.engine import filters as match
from sampan.engine import timestamps
from sampan.engine.events import Events
from sampan.engine.filters import Filters
from sampan.engine.index import Index
from sampan.engine.state import State
from sampan.engine.trash import Trash
from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.jobs.client import ForkServer

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that a container made without naming it; prune takes these first."""

_KIND = "volume"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MAX_NAME = 255

Ids = list[str]


class Volume(msgspec.Struct):
    """`created` is RFC 3339."""

    name: str
    created: str
    labels: dict[str, str] = {}


class _Create(msgspec.Struct, rename="pascal"):
    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Volumes:
    """Volumes of one data root; `containers` says who uses them.

    The directory is made before the record and removed after it: at any moment a recorded volume has its directory.
    """

    def __init__(
        self, state: State, root: Path, trash: Trash, worker: ForkServer, events: Events, containers: Index
    ) -> None:
        self._state = state
        self._root = root
        self._trash = trash
        self._worker = worker
        self._events = events
        self._containers = containers
        records = (msgspec.json.decode(body, type=Volume) for _, body in state.load(_KIND))
        self._volumes = {volume.name: volume for volume in records}
        root.mkdir(mode=0o701, parents=True, exist_ok=True)
        self._adopt()

    def _adopt(self) -> None:
        """A directory without a record is a volume all the same: data is never lost with a state file."""
        for directory in self._root.iterdir():
            if directory.name not in self._volumes and _NAME.fullmatch(directory.name) and directory.is_dir():
                self._record(Volume(directory.name, timestamps.rfc3339(directory.stat().st_mtime_ns)))

    # -- for containers

    def mount_point(self, name: str) -> Path:
        """The directory of a volume. Raises NotFound."""
        return self._root / self._get(name).name / "_data"

    def ensure(self, name: str, labels: dict[str, str] | None = None) -> bool:
        """Make the volume if it is not there; True if it was made now (then the image's files are copied into it)."""
        if name in self._volumes:
            return False
        self._make(name, labels or {})
        return True

    def anonymous(self, labels: dict[str, str] | None = None) -> str:
        """Make a volume for a container that did not name one; its name, 64 hex digits."""
        name = secrets.token_hex(32)
        self._make(name, {**(labels or {}), ANONYMOUS: ""})
        return name

    # -- the API's operations

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """`POST /volumes/create`: the volume, which may have been there. Raises InvalidArgument, Unsupported."""
        try:
            wish = msgspec.convert(body, _Create)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"invalid volume: {error}") from error
        if wish.driver not in (None, "", "local"):
            raise NotFound(f"error looking up volume plugin {wish.driver}: Sampan has no volume plugins, only local")
        if wish.driver_opts:
            raise Unsupported(f"volume driver options are not supported yet: {', '.join(sorted(wish.driver_opts))}")
        if not wish.name:
            return self.inspect(self.anonymous(wish.labels))
        self.ensure(wish.name, wish.labels)
        return self.inspect(wish.name)

    def list(self, filters: Filters | None = None) -> dict[str, Any]:
        """`GET /volumes`: {"Volumes": […], "Warnings": null}, by name."""
        filters = filters or {}
        match.check(filters, {"dangling", "driver", "label", "name"})
        used = self._users()
        dangling = match.boolean(filters, "dangling", False) if filters.get("dangling") else None
        return {"Warnings": None, "Volumes": [
            self.inspect(volume.name) for volume in sorted(self._volumes.values(), key=lambda volume: volume.name)
            if (dangling is None or dangling == (volume.name not in used))
            and match.exact(filters, "driver", "local")
            and match.labels(filters, volume.labels)
            and (not filters.get("name") or any(text in volume.name for text in filters["name"]))
        ]}

    def inspect(self, name: str) -> dict[str, Any]:
        """`GET /volumes/NAME`. Raises NotFound."""
        volume = self._get(name)
        return {
            "CreatedAt": volume.created, "Driver": "local", "Labels": volume.labels or None,
            "Mountpoint": str(self.mount_point(name)), "Name": volume.name, "Options": None, "Scope": "local",
        }

    def remove(self, name: str, force: bool = False) -> None:
        """Raises Conflict while containers refer to it, NotFound (not with `force`)."""
        if force and name not in self._volumes:
            return
        volume = self._get(name)
        if users := self._users().get(name):
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        self._forget(volume)

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """`POST /volumes/prune`: the unused anonymous ones; with the filter all=true the named ones too."""
        filters = filters or {}
        match.check(filters, {"all", "label", "label!"})
        everything = match.boolean(filters, "all", False)
        doomed = [
            volume for volume in self._volumes.values()
            if (everything or ANONYMOUS in volume.labels)
            and match.labels(filters, volume.labels) and match.labels(filters, volume.labels, "label!")
        ]
        deleted, reclaimed = [], 0
        for volume in doomed:
            if volume.name in self._users():
                continue
            size = await self.size(volume.name)
            if volume.name in self._volumes and volume.name not in self._users():  # a container may have come meanwhile
                self._forget(volume)
                deleted.append(volume.name)
                reclaimed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
        return {"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed}

    async def usage(self) -> Sequence[dict[str, Any]]:
        """All volumes with `UsageData`, for `GET /system/df`."""
        used = self._users()
        return [
            self.inspect(name) | {"UsageData": {"RefCount": len(used.get(name, [])), "Size": await self.size(name)}}
            for name in sorted(self._volumes)
        ]

    async def size(self, name: str) -> int:
        """Bytes of the volume's files."""
        path = str(self.mount_point(name))
        return int((await self._worker.run("image.tree_size", {"path": path}))["size"])

    # -- inside

    def _get(self, name: str) -> Volume:
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def _make(self, name: str, labels: dict[str, str]) -> None:
        if len(name) == 1:
            raise InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
        if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
            raise InvalidArgument(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        directory = self._root / name
        directory.mkdir(mode=0o701)
        try:
            (directory / "_data").mkdir(mode=0o755)
            self._record(Volume(name, timestamps.rfc3339(time.time_ns()), labels))
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._events.publish("volume", "create", name, {"driver": "local"})

    def _record(self, volume: Volume) -> None:
        self._state.save(_KIND, volume.name, msgspec.json.encode(volume))
        self._volumes[volume.name] = volume

    def _forget(self, volume: Volume) -> None:
        """The record first: after a crash in between the volume is there again, not a record without a directory."""
        self._state.delete(_KIND, volume.name)
        del self._volumes[volume.name]
        self._trash.take(self._root / volume.name)
        self._events.publish("volume", "destroy", volume.name, {"driver": "local"})

    def _users(self) -> dict[str, Ids]:
        """Volume → the ids of the containers that refer to it, running or not."""
        users: dict[str, Ids] = {}
        for container in self._containers:
            for mount in container.record.mounts:
                if mount.type == "volume":
                    users.setdefault(mount.name, []).append(container.id)
        return users
