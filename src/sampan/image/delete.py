"""Removing images with Docker's rules: a name first, the image with its last name, its nameless parents after it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sampan.errors import Conflict
from sampan.image import reference
from sampan.image.store import Image, Store
from sampan.oci import image as oci


@dataclass(frozen=True)
class Use:
    """A container and the image it was made from."""

    image_id: str
    container_id: str
    running: bool


def delete(
    store: Store, ref: str, force: bool = False, in_use: Collection[Use] = (), prune: bool = True
) -> list[dict[str, str]]:
    """Remove what `ref` means; Docker's answer: `{"Untagged": name}` and `{"Deleted": id}` in order.

    A name of several is only taken away. The last name takes the image with it if nothing else needs it, an id removes
    it with its one name, and with `prune` parents go too that have neither name nor other children. Raises NotFound, or
    Conflict: `force` overrides stopped containers and several names; running containers and child images keep an
    image whatever is said. Disk space is freed by `store.collect` afterwards.
    """
    image = store.resolve(ref)
    name = store.name_meant(ref)
    records: list[dict[str, str]] = []
    if name:
        image = _untag(store, image, name, force, in_use, records)
        # as with Docker, a name is gone even if the image has to stay, for a running container or child images
        if image.names or _conflict_of(store, image, True, in_use):
            return records
    else:
        conflict = _conflict_of(store, image, force, in_use)
        if conflict:
            raise conflict
    _remove(store, image, records)
    if prune:
        _remove_parents(store, image.parent, in_use, records)
    return records


def _untag(
    store: Store, image: Image, name: str, force: bool, in_use: Collection[Use], records: list[dict[str, str]]
) -> Image:
    names = [name]
    if "@" in name:  # a digest is no name of its own: it stands for all names of its repository
        repository = reference.parse(name).repository
        names = [it for it in image.names if reference.parse(it).repository == repository]
    users = [use for use in in_use if use.image_id == image.id]
    if len(names) == len(image.names) and users and not force:
        raise Conflict(
            f'conflict: unable to remove repository reference "{name}" (must force) - '
            f"container {users[0].container_id[:12]} is using its referenced image {_short(image.id)}"
        )
    records.extend({"Untagged": store.untag(it)} for it in names)
    return store.get(image.id)


def _conflict_of(store: Store, image: Image, force: bool, in_use: Collection[Use]) -> Conflict | None:
    """The Conflict that forbids removing the image."""
    users = [use for use in in_use if use.image_id == image.id]
    running = [use for use in users if use.running]
    if store.children(image.id):
        return _conflict(image, "image has dependent child images", forceable=False)
    if running:
        reason = f"image is being used by running container {running[0].container_id[:12]}"
        return _conflict(image, reason, forceable=False)
    if force:
        return None
    if len(image.names) > 1:
        return _conflict(image, "image is referenced in multiple repositories", forceable=True)
    if users:
        reason = f"image is being used by stopped container {users[0].container_id[:12]}"
        return _conflict(image, reason, forceable=True)
    return None


def _conflict(image: Image, reason: str, forceable: bool) -> Conflict:
    how = "must be forced" if forceable else "cannot be forced"
    return Conflict(f"conflict: unable to delete {_short(image.id)} ({how}) - {reason}")


def _remove(store: Store, image: Image, records: list[dict[str, str]]) -> None:
    shared = {chain for other in store.images() if other.id != image.id for chain in _chain(other)}
    store.remove(image.id)
    records.extend({"Untagged": name} for name in image.names)
    records.append({"Deleted": image.id})
    records.extend({"Deleted": chain} for chain in reversed(_chain(image)) if chain not in shared)


def _remove_parents(store: Store, parent: str, in_use: Collection[Use], records: list[dict[str, str]]) -> None:
    known = {image.id: image for image in store.images()}
    while parent in known:
        image = known[parent]
        used = any(use.image_id == parent for use in in_use)
        if image.names or used or store.children(parent):
            return
        _remove(store, image, records)
        parent = image.parent


def _chain(image: Image) -> list[str]:
    return oci.chain_ids([layer.diff_id for layer in image.layers])


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
