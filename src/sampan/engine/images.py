"""Images as users know them, in Docker's schema: list, import, load, save, tag, remove, prune."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import msgspec

from sampan.engine import filters as match
from sampan.engine import host, image_job, image_view, timestamps
from sampan.engine.changes import apply_changes
from sampan.engine.events import Events
from sampan.engine.filters import Filters
from sampan.engine.index import Index
from sampan.errors import InvalidArgument, NotFound, Unsupported
from sampan.image import delete, reference
from sampan.image.store import Image, LayerRef, Store
from sampan.jobs.client import ForkServer
from sampan.oci import image as oci

Emit = Callable[[dict[str, Any]], None]
Records = list[dict[str, Any]]


class Images:
    """`kept_layers` gives diff ids that something besides images and containers needs (the build cache)."""

    def __init__(
        self, store: Store, worker: ForkServer, events: Events, containers: Index,
        kept_layers: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._store = store
        self._worker = worker
        self._events = events
        self._containers = containers
        self._kept_layers = kept_layers

    # -- looking

    def list(self, all: bool = False, filters: Filters | None = None, shared_size: bool = False) -> Records:
        """`GET /images/json`, newest first; without `all` no nameless image that others were made from."""
        images = [_narrowed(image, filters or {}) for image in self._filtered(filters or {}, all)]
        sharing = image_view.shared_sizes(self._store.images()) if shared_size else {}
        return [image_view.summary(image, self._users(image.id), sharing.get(image.id, -1)) for image in images]

    def inspect(self, ref: str) -> dict[str, Any]:
        """`GET /images/REF/json`. Raises NotFound."""
        image = self._store.resolve(ref)
        return image_view.details(image, self._store.lower_dirs(image))

    def history(self, ref: str) -> Records:
        """`GET /images/REF/history`, newest first. Raises NotFound."""
        image = self._store.resolve(ref)
        return image_view.history(image, {known.id: known for known in self._store.images()})

    def check_platform(self, ref: str, platform: str) -> None:
        """Is the image for that platform ("linux/amd64", "arm64")? Raises InvalidArgument, NotFound for no such image.

        Not NotFound for the wrong one, as Docker: clients would try to pull it and hide the reason.
        """
        config = self._store.resolve(ref).config
        known = {config.os, config.architecture, f"{config.os}/{config.architecture}"}
        if config.variant:
            known.add(f"{config.os}/{config.architecture}/{config.variant}")
        if platform.lower() not in known:
            raise InvalidArgument(
                f"image with reference {ref} was found but its platform ({config.os}/{config.architecture}) does not "
                f"match the specified platform ({platform})"
            )

    def layers_size(self) -> int:
        """Bytes of all layers' files, each layer counted once."""
        return sum({layer.diff_id: layer.size for image in self._store.images() for layer in image.layers}.values())

    def layers(self) -> set[str]:
        """The diff ids of all images' layers."""
        return {layer.diff_id for image in self._store.images() for layer in image.layers}

    # -- names

    def tag(self, ref: str, repository: str, tag: str = "") -> None:
        """Raises NotFound, InvalidArgument."""
        image = self._store.resolve(ref)
        name = self._store.tag(image.id, joined(repository, tag))
        self._tell("tag", image, name)

    async def remove(self, ref: str, force: bool = False, prune: bool = True) -> Records:
        """`DELETE /images/REF`: `[{"Untagged": name}, {"Deleted": id}]`. Raises NotFound, Conflict."""
        image = self._store.resolve(ref)
        records = delete.delete(self._store, ref, force, self._uses(), prune)
        self._tell_removed(image, records)
        await self.sweep()
        return [*records]

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """`POST /images/prune`: nameless images; with dangling=false all that no container was made from."""
        filters = filters or {}
        match.check(filters, {"dangling", "until", "label", "label!"})
        dangling = match.boolean(filters, "dangling", True)
        until = _earliest(filters)
        records: Records = []
        for image in self._store.images():
            used = self._users(image.id) or self._store.children(image.id)
            if used or (dangling and image.names) or not _passes_prune(image, filters, until):
                continue
            removed = delete.delete(self._store, image.id, bool(image.names), self._uses())
            self._tell_removed(image, removed)
            records.extend(removed)
        reclaimed = await self.sweep()
        self._events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})
        return {"ImagesDeleted": records or None, "SpaceReclaimed": reclaimed}

    # -- archives

    async def import_(
        self, fd: int, source: str, name: str, message: str, changes: Sequence[str], platform: str = ""
    ) -> str:
        """Make an image of one layer from a root file system's tar (any compression) read from `fd`; its id.

        `source` is told in the history ("-"). Raises InvalidArgument for a broken tar, a bad name or change.
        """
        if name:
            reference.parse_tag(name)
        config = apply_changes(_imported(source, message, platform), changes)
        with self._store.hold():
            layer = await image_job.run(self._worker, self._store.layout, "image.import_tar", {}, [fd])
            image = self._store.register(config, [msgspec.convert(layer, LayerRef)], [name] if name else [])
        self._tell("import", image, name or image.id)
        return image.id

    async def load(self, fd: int, emit: Emit, quiet: bool = True) -> None:
        """Take images from a docker-archive or OCI archive; emits Docker's messages. Raises InvalidArgument."""
        with self._store.hold():
            on_progress = None if quiet else _progress(emit)
            result = await image_job.run(self._worker, self._store.layout, "image.load", {}, [fd], on_progress)
            loaded = [
                (self._store.adopt(entry["manifest"], entry["names"]), entry["names"]) for entry in result["images"]
            ]
        for image, names in loaded:
            for name in names:
                familiar = reference.parse_tag(name).familiar
                self._tell("load", image, familiar)
                emit({"stream": f"Loaded image: {familiar}\n"})
            if not names:
                self._tell("load", image, image.id)
                emit({"stream": f"Loaded image ID: {image.id}\n"})

    async def save(self, names: Sequence[str], fd: int) -> None:
        """Write a docker-archive (which is an OCI archive too) of the images to `fd`. Raises NotFound first."""
        entries = [self._saved(name) for name in names]
        if not entries:
            raise InvalidArgument("no images to save: name at least one")
        with self._store.hold():
            await self._worker.run("image.save", self._args() | {"images": entries}, [fd])
        for name in names:
            image = self._store.resolve(name)
            self._tell("save", image, name)

    # -- registries

    def pull(self, name: str) -> NoReturn:
        """Raises InvalidArgument for a bad name, NotFound: there is no registry support."""
        familiar = reference.parse(name).tagged().familiar
        raise NotFound(
            f"there is no image {familiar} on this host, and Sampan cannot pull yet: it has no registry support; "
            "make the image with build, import or load"
        )

    def push(self, name: str) -> NoReturn:
        """Raises NotFound for an unknown image, else Unsupported."""
        self._store.resolve(name)
        raise Unsupported("Sampan cannot push yet: it has no registry support; use save to move an image")

    def search(self, term: str) -> NoReturn:
        """Raises Unsupported."""
        raise Unsupported("Sampan cannot search yet: it has no registry support")

    # -- inside

    def _args(self) -> dict[str, Any]:
        return {"data_root": self._store.layout.root}

    def _saved(self, name: str) -> dict[str, Any]:
        image = self._store.resolve(name)
        familiar = self._store.name_meant(name)
        return {"manifest": image.manifest_digest, "names": [familiar] if familiar and "@" not in familiar else []}

    def _filtered(self, filters: Filters, all: bool) -> Sequence[Image]:
        match.check(filters, {"before", "dangling", "label", "label!", "reference", "since", "until"})
        older_than = [self._store.resolve(ref).created for ref in filters.get("before", ())]
        newer_than = [self._store.resolve(ref).created for ref in filters.get("since", ())]
        dangling = match.boolean(filters, "dangling", False) if filters.get("dangling") else None
        until = _earliest(filters)
        return [
            image for image in self._store.images()
            if (image.names or all or not self._store.children(image.id))
            and (dangling is None or dangling != bool(image.names))
            and image_view.created(image) < min(map(image_view.moment, older_than), default=1 << 63)
            and image_view.created(image) > max(map(image_view.moment, newer_than), default=-1 << 63)
            and _passes_prune(image, filters, until)
            and (not filters.get("reference") or _narrowed(image, filters).names)
        ]

    def _uses(self) -> Sequence[delete.Use]:
        return [delete.Use(it.record.image, it.id, it.alive) for it in self._containers]

    def _users(self, image_id: str) -> int:
        return sum(it.record.image == image_id for it in self._containers)

    async def sweep(self) -> int:
        """Free what no image, container or kept layer refers to any more; the bytes of disk."""
        layers = {layer for container in self._containers for layer in container.record.layers}
        garbage = self._store.collect(layers | set(self._kept_layers()))
        if garbage.names:
            await self._worker.run("image.sweep", self._args() | {"names": [*garbage.names]})
        return garbage.size

    def _tell(self, action: str, image: Image, name: str) -> None:
        self._events.publish("image", action, image.id, image_view.labels(image) | {"name": name})

    def _tell_removed(self, image: Image, records: Iterable[dict[str, str]]) -> None:
        known = {known.id for known in self._store.images()}
        for record in records:
            if "Untagged" in record:
                self._tell("untag", image, record["Untagged"])
            elif record["Deleted"] not in known and record["Deleted"] == image.id:
                self._events.publish("image", "delete", image.id, {"name": image.id})


def joined(repository: str, tag: str) -> str:
    """A repository and a tag as the API has them apart; a repository may bring its own tag. Raises InvalidArgument."""
    if not tag:
        return repository
    if not reference.is_tag(tag):
        raise InvalidArgument("invalid tag format")
    named = reference.parse(repository)
    return f"{named.familiar_repository}:{tag}"


def _narrowed(image: Image, filters: Filters) -> Image:
    """The image with those of its names that the filter `reference` lets through."""
    patterns = filters.get("reference")
    if not patterns:
        return image
    names = (name for name in image.names if any(reference_matches(pattern, name) for pattern in patterns))
    return replace(image, names=tuple(names))


def reference_matches(pattern: str, name: str) -> bool:
    """Docker's `reference` filter: a shell pattern for the repository, or for repository:tag; `*` stops at a slash."""
    repository = name.rpartition(":")[0]
    return image_view.path_match(pattern, name) or image_view.path_match(pattern, repository)


def _imported(source: str, message: str, platform: str) -> oci.ImageConfig:
    os_name, _, rest = platform.partition("/")
    if os_name not in ("", "linux"):
        raise InvalidArgument(f"operating system is not supported: {os_name}")
    now = timestamps.rfc3339(time.time_ns())
    comment = message or f"Imported from {source}"
    return oci.ImageConfig(
        created=now, architecture=rest.partition("/")[0] or host.architecture(), os="linux", comment=comment,
        config=oci.ContainerConfig(), history=[oci.History(created=now, comment=comment)],
    )


def _passes_prune(image: Image, filters: Filters, until: int | None) -> bool:
    labels = image_view.labels(image)
    return (
        match.labels(filters, labels) and match.labels(filters, labels, "label!")
        and (until is None or image_view.created(image) <= until)
    )


def _earliest(filters: Filters) -> int | None:
    until = filters.get("until")
    if not until:
        return None
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    return timestamps.parse(until[0])


def _progress(emit: Emit) -> Callable[[dict[str, Any]], None]:
    """A job's progress in the shape from which the docker command draws a bar."""

    def tell(progress: dict[str, Any]) -> None:
        detail = {name: progress[name] for name in ("current", "total") if progress.get(name)}
        emit({"status": progress["status"], "id": progress["id"], "progressDetail": detail})

    return tell
