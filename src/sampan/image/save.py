"""Images to an archive that is both: docker-archive (manifest.json) and an OCI layout (index.json), as Docker 25's.

Layers stay as they are in the store, compressed: every reader of either format finds that out by their first bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec

from sampan.image import reference
from sampan.image.layout import Layout
from sampan.image.stream import CHUNK
from sampan.image.tar import write
from sampan.image.tar.entry import DIRECTORY, Entry
from sampan.oci import image as oci


class Saved(msgspec.Struct, frozen=True):
    """An image to be saved: its manifest's digest, the names to save it under."""

    manifest: str
    names: list[str] = []


class _Member(msgspec.Struct, rename="pascal"):
    config: str
    repo_tags: list[str]
    layers: list[str]


def save(layout: Layout, images: Sequence[Saved], out: Callable[[bytes], object]) -> None:
    """Write the archive. The same images and names give the same bytes."""
    descriptors: list[oci.Descriptor] = []
    members: list[_Member] = []
    blobs: dict[str, None] = {}
    for image in _merged(images):
        data = layout.read_blob(image.manifest)
        manifest = oci.decode_manifest(data)
        blobs |= dict.fromkeys([image.manifest, manifest.config.digest, *(it.digest for it in manifest.layers)])
        names = [reference.parse_tag(name) for name in image.names]
        members.append(_Member(
            _path(manifest.config.digest), [name.familiar for name in names],
            [_path(it.digest) for it in manifest.layers],
        ))
        kind = manifest.media_type or oci.OCI_MANIFEST
        descriptors += [
            oci.Descriptor(media_type=kind, digest=image.manifest, size=len(data), annotations=note)
            for note in [_note(name) for name in names] or [None]
        ]
    index = oci.Index(media_type=oci.OCI_INDEX, manifests=descriptors)
    for directory in (b"blobs", b"blobs/sha256"):
        out(write.header(Entry(directory, DIRECTORY, 0o755)))
    for digest in sorted(blobs):
        _blob(layout, digest, out)
    _file(b"index.json", oci.encode(index), out)
    _file(b"manifest.json", msgspec.json.encode(members), out)
    _file(b"oci-layout", b'{"imageLayoutVersion":"1.0.0"}', out)
    out(write.END)


def _note(name: reference.Reference) -> dict[str, str] | None:
    return {oci.CONTAINERD_NAME: str(name), oci.REF_NAME: name.tag}


def _merged(images: Sequence[Saved]) -> list[Saved]:
    names: dict[str, dict[str, None]] = {}
    for image in images:
        names.setdefault(image.manifest, {}).update(dict.fromkeys(image.names))
    return [Saved(manifest, list(found)) for manifest, found in names.items()]


def _path(digest: str) -> str:
    return "blobs/sha256/" + oci.digest_hex(digest)


def _file(name: bytes, data: bytes, out: Callable[[bytes], object]) -> None:
    out(write.header(Entry(name, size=len(data))) + data + write.padding(len(data)))


def _blob(layout: Layout, digest: str, out: Callable[[bytes], object]) -> None:
    fd = os.open(layout.blob_path(digest), os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        out(write.header(Entry(_path(digest).encode(), size=size)))
        while data := os.read(fd, CHUNK):
            out(data)
        out(write.padding(size))
    finally:
        os.close(fd)
