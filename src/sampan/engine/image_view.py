"""An image in the Engine API's schemas. Pure functions of what the store knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from sampan.engine import timestamps
from sampan.errors import InvalidArgument
from sampan.image import reference
from sampan.image.store import Image
from sampan.oci import image as oci

_ALWAYS: dict[str, Any] = {
    "User": "", "Env": None, "Cmd": None, "Volumes": None, "WorkingDir": "", "Entrypoint": None, "OnBuild": None,
    "Labels": None,
}


def moment(text: str) -> int:
    """RFC 3339 from an image's config in nanoseconds, 0 for what is no time: an image may say anything."""
    try:
        return timestamps.parse(text)
    except InvalidArgument:
        return 0


def created(image: Image) -> int:
    """Nanoseconds since the epoch."""
    return moment(image.created)


def labels(image: Image) -> dict[str, str]:
    config = image.config.config
    return dict(config.labels or {}) if config else {}


def summary(image: Image, containers: int, shared_size: int = -1) -> dict[str, Any]:
    """An element of `GET /images/json`. Sizes in bytes; -1 is "not computed"."""
    return {
        "Id": image.id, "ParentId": image.parent, "RepoTags": [*image.names], "RepoDigests": repo_digests(image),
        "Created": created(image) // timestamps.SECOND, "Size": image.size, "SharedSize": shared_size,
        "Labels": labels(image) or None, "Containers": containers,
    }


def repo_digests(image: Image) -> list[str]:
    """`repository@digest` for each repository the image is named in: how this very content can be asked for."""
    repositories = {reference.parse(name).familiar_repository for name in image.names}
    return [f"{repository}@{image.manifest_digest}" for repository in sorted(repositories)]


def shared_sizes(images: Sequence[Image]) -> dict[str, int]:
    """Per image the bytes of layers that another image has too."""
    users = Counter(diff_id for image in images for diff_id in {layer.diff_id for layer in image.layers})
    return {image.id: sum(it.size for it in image.layers if users[it.diff_id] > 1) for image in images}


def details(image: Image, lower_dirs: Sequence[str]) -> dict[str, Any]:
    """`GET /images/REF/json`."""
    config = image.config
    answer = {
        "Id": image.id, "RepoTags": [*image.names], "RepoDigests": repo_digests(image), "Parent": image.parent,
        "Comment": config.comment or "", "Created": image.created, "DockerVersion": config.docker_version or "",
        "Author": config.author or "", "Config": container_config(config.config), "Architecture": config.architecture,
        "Os": config.os, "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": _graph(lower_dirs)},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Metadata": {"LastTagTime": timestamps.ZERO},
    }
    if config.variant:
        answer["Variant"] = config.variant
    if config.os_version:
        answer["OsVersion"] = config.os_version
    return answer


def _graph(lower_dirs: Sequence[str]) -> dict[str, str]:
    data = {"UpperDir": lower_dirs[0]}
    return data | {"LowerDir": ":".join(lower_dirs[1:])} if len(lower_dirs) > 1 else data


def container_config(config: oci.ContainerConfig | None) -> dict[str, Any]:
    """The image's `Config` with the members clients count on, set or not."""
    return _ALWAYS | (msgspec.to_builtins(config) if config else {})


def history(image: Image, known: Mapping[str, Image]) -> list[dict[str, Any]]:
    """`GET /images/REF/history`, newest first. Images it was made from here are told by id, others as `<missing>`."""
    sizes = iter(image.layers)
    rows = []
    for entry in image.config.history or ():
        layer = None if entry.empty_layer else next(sizes, None)
        rows.append(_row(entry, layer.size if layer else 0))
    rows += [_row(oci.History(), layer.size) for layer in sizes]  # layers that the history keeps quiet about
    rows.reverse()
    origin: Image | None = image
    for row in rows:
        if origin is None:
            break
        row["Id"], row["Tags"] = origin.id, [*origin.names] or None
        origin = known.get(origin.parent)
    return rows


def _row(entry: oci.History, size: int) -> dict[str, Any]:
    return {
        "Id": "<missing>", "Created": moment(entry.created or "") // timestamps.SECOND,
        "CreatedBy": entry.created_by or "", "Tags": None, "Size": size, "Comment": entry.comment or "",
    }


def path_match(pattern: str, path: str) -> bool:
    """A shell pattern whose `*` does not cross a slash."""
    patterns, parts = pattern.split("/"), path.split("/")
    return len(patterns) == len(parts) and all(map(fnmatchcase, parts, patterns))
