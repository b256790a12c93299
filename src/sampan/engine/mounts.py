"""What is mounted into a container from outside: binds, volumes, tmpfs; from all the places where Docker says so."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from typing import Any

from sampan.engine.index import Index
from sampan.engine.record import MountPoint
from sampan.engine.volumes import Volumes
from sampan.errors import InvalidArgument

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_WITHOUT_MEANING = ("z", "Z", "cached", "delegated", "consistent")
_MAX_PATH = 4096


class Mounts:
    """Collects mount points; the first to say a destination has it. Volumes are made on the way.

    `made` are the volumes that this collection made: to be removed if the container's creation fails, and to be
    filled from the image if it succeeds.
    """

    def __init__(self, volumes: Volumes, index: Index) -> None:
        self._volumes = volumes
        self._index = index
        self._found: dict[str, MountPoint] = {}
        self.made: list[str] = []

    def collect(self, config: dict[str, Any], host_config: dict[str, Any]) -> list[MountPoint]:
        """All mount points, sorted by destination so that one below another comes after it.

        Raises InvalidArgument with Docker's words; NotFound for `VolumesFrom`.
        """
        for text in host_config.get("Binds") or ():
            self._add(self._bind(text), explicit=True)
        for mount in host_config.get("Mounts") or ():
            self._add(self._mount(mount), explicit=True)
        for path in host_config.get("Tmpfs") or ():
            self._add(MountPoint("tmpfs", "", destination(path)), explicit=True)
        for text in host_config.get("VolumesFrom") or ():
            self._from(text)
        for path in config.get("Volumes") or ():
            if destination(path) not in self._found:
                self._add(self._volume("", destination(path), {}))
        # What --tmpfs asks for is not in inspect's Mounts: it stays in HostConfig.Tmpfs alone.
        kept = [point for path, point in self._found.items() if path not in (host_config.get("Tmpfs") or {})]
        return sorted(kept, key=lambda point: point.destination)

    def undo(self) -> None:
        """Remove the volumes that were made."""
        for name in self.made:
            self._volumes.remove(name, force=True)
        self.made.clear()

    def _add(self, point: MountPoint, explicit: bool = False) -> None:
        if explicit and point.destination in self._found:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}")
        self._found.setdefault(point.destination, point)

    def _bind(self, text: str) -> MountPoint:
        parts = text.split(":")
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise InvalidArgument(f"invalid volume specification: '{text}'")
        source, target = parts[0], destination(parts[1])
        mode = parts[2] if len(parts) == 3 else ""
        flags = [flag for flag in mode.split(",") if flag]
        propagation = _propagation(flags, text)
        if source.startswith("/"):
            point = MountPoint("bind", posixpath.normpath(source), target, propagation=propagation or "rprivate")
        else:
            point = self._volume(source, target, {})
            point.copy = point.copy and "nocopy" not in flags
        point.rw, point.mode = "ro" not in flags, mode
        return point

    def _mount(self, mount: dict[str, Any]) -> MountPoint:
        kind, target = mount.get("Type") or "", mount.get("Target") or ""
        source = mount.get("Source") or ""
        if not target:
            raise InvalidArgument(f'invalid mount config for type "{kind}": field Target must not be empty')
        make = {"bind": self._mount_bind, "volume": self._mount_volume, "tmpfs": self._mount_tmpfs}.get(kind)
        if make is None:
            raise InvalidArgument(f'invalid mount config: mount type "{kind}" is unknown')
        point = make(source, destination(target), mount)
        point.rw = not mount.get("ReadOnly")
        return point

    def _mount_bind(self, source: str, target: str, mount: dict[str, Any]) -> MountPoint:
        options = mount.get("BindOptions") or {}
        if not source:
            raise InvalidArgument('invalid mount config for type "bind": field Source must not be empty')
        if not source.startswith("/"):
            raise InvalidArgument(
                f'invalid mount config for type "bind": invalid mount path: \'{source}\' mount path must be absolute'
            )
        if not os.path.lexists(source):
            if not options.get("CreateMountpoint"):
                raise InvalidArgument(
                    f'invalid mount config for type "bind": bind source path does not exist: {source}'
                )
            os.makedirs(source, 0o755)
        propagation = options.get("Propagation") or "rprivate"
        if propagation not in _PROPAGATIONS:
            raise InvalidArgument(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
        if options.get("NonRecursive"):
            propagation = propagation.removeprefix("r")
        return MountPoint("bind", posixpath.normpath(source), target, propagation=propagation)

    def _mount_volume(self, source: str, target: str, mount: dict[str, Any]) -> MountPoint:
        options = mount.get("VolumeOptions") or {}
        driver = (options.get("DriverConfig") or {}).get("Name") or "local"
        if driver != "local":
            raise InvalidArgument(f"error looking up volume plugin {driver}: Sampan has no volume plugins, only local")
        point = self._volume(source, target, options.get("Labels") or {})
        point.copy = point.copy and not options.get("NoCopy")
        point.mode = "z"
        return point

    def _mount_tmpfs(self, source: str, target: str, mount: dict[str, Any]) -> MountPoint:
        if source:
            raise InvalidArgument('invalid mount config for type "tmpfs": field Source must not be specified')
        return MountPoint("tmpfs", "", target)

    def _volume(self, name: str, target: str, labels: dict[str, str]) -> MountPoint:
        anonymous = not name
        if anonymous:
            name = self._volumes.anonymous(labels)
            self.made.append(name)
        elif self._volumes.ensure(name, labels):
            self.made.append(name)
        source = str(self._volumes.mount_point(name))
        return MountPoint("volume", source, target, name=name, anonymous=anonymous, copy=_is_empty(source))

    def _from(self, text: str) -> None:
        ref, _, mode = text.partition(":")
        if mode not in ("", "ro", "rw"):
            raise InvalidArgument(f"invalid mode: {mode}")
        for point in self._index.find(ref).record.mounts:
            if point.type != "tmpfs":
                self._add(MountPoint(
                    point.type, point.source, point.destination, rw=point.rw and mode != "ro", mode=mode,
                    propagation=point.propagation, name=point.name,
                ))


def destination(path: str) -> str:
    """A mount's place inside the container, in normal form. Raises InvalidArgument."""
    if not path.startswith("/") or "\0" in path or len(path) > _MAX_PATH:
        raise InvalidArgument(f"invalid mount path: '{path[:_MAX_PATH]}' mount path must be absolute")
    clean = posixpath.normpath(path)
    clean = "/" + clean.lstrip("/")  # POSIX keeps two leading slashes
    if clean == "/":
        raise InvalidArgument("invalid volume specification: destination can't be '/'")
    return clean


def _propagation(flags: Iterable[str], text: str) -> str:
    found = ""
    for flag in flags:
        if flag in _PROPAGATIONS:
            found = flag
        elif flag not in ("ro", "rw", "nocopy", *_WITHOUT_MEANING):
            raise InvalidArgument(f"invalid mode: {flag} in volume specification '{text}'")
    return found


def _is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def prepare(points: Iterable[MountPoint]) -> None:
    """Before each start: the host's side of a bind that is not there is made, as a directory (`-v`)."""
    for point in points:
        if point.type == "bind" and not os.path.lexists(point.source):
            os.makedirs(point.source, 0o755)
