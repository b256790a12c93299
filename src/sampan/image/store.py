"""The images of this host: names, configs, layers. Metadata only, synchronous, used by the engine process alone.

What is known is in index.json and the documents it names; this class holds it in memory and writes index.json whole,
by rename, at every change. Layers come from jobs (image/jobs.py): first a job unpacks, then the store registers.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError
from sampan.image import reference
from sampan.image.layout import LayerRef, Layout
from sampan.oci import image as oci

__all__ = ["Garbage", "Image", "LayerRef", "Store"]

_PARENT = "io.sampan.image.parent"


@dataclass(frozen=True)
class Image:
    """An image as it is now; a change makes a new one.

    `id` is the digest of the config's bytes; `names` are as Docker prints them ("busybox:latest"), sorted; `size` is
    the bytes of all layers' files; `parent` is the image it was made from here, or "".
    """

    id: str
    config: oci.ImageConfig
    manifest_digest: str
    layers: tuple[LayerRef, ...]
    names: tuple[str, ...]
    created: str
    size: int
    parent: str = ""


@dataclass(frozen=True)
class Garbage:
    """What `collect` took out: names in tmp/ for the job `image.sweep`, the layers, and the bytes of disk in all."""

    names: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    size: int = 0


class Store:
    """Names and images of one data root. Not for two processes at once."""

    def __init__(self, data_root: str | os.PathLike[str]) -> None:
        self.layout = Layout(data_root)
        self.layout.prepare()
        #: names in tmp/ that a crash left behind, for the job `image.sweep`
        self.leftovers: list[str] = os.listdir(self.layout.tmp)
        #: images in index.json that cannot be read, and why; they stay in index.json
        self.problems: list[str] = []
        self._images: dict[str, Image] = {}
        self._names: dict[str, str] = {}
        self._foreign: list[oci.Descriptor] = []
        self._holds = 0
        self._read()

    # reading

    def images(self) -> list[Image]:
        """All images, newest first."""
        return sorted(self._images.values(), key=lambda image: (image.created, image.id), reverse=True)

    def get(self, image_id: str) -> Image:
        """The image with exactly this id."""
        try:
            return self._images[image_id]
        except KeyError:
            raise NotFound(f"No such image: {image_id}") from None

    def resolve(self, ref: str) -> Image:
        """The image that `ref` means: a full id, name[:tag], name@digest, or a unique start of an id.

        Raises InvalidArgument for what can be no name, NotFound("No such image: x:latest").
        """
        prefix = reference.id_prefix(ref)
        if len(prefix) == 64:
            return self.get(f"sha256:{prefix}")
        named = reference.parse(ref).tagged()
        found = self._by_digest(named) if named.digest else self._names.get(named.familiar)
        found = found or (self._by_prefix(prefix) if prefix else None)
        if found is None:
            raise NotFound(f"No such image: {named.familiar}")
        return self._images[found]

    def name_meant(self, ref: str) -> str:
        """The name (as Docker prints it) if `ref` is a name of an image here, "" if it is an id or the start of one."""
        prefix = reference.id_prefix(ref)
        if len(prefix) == 64:
            return ""
        named = reference.parse(ref).tagged()
        known = self._by_digest(named) if named.digest else self._names.get(named.familiar)
        return named.familiar if known else ""

    def lower_dirs(self, layers: Image | Sequence[LayerRef]) -> list[str]:
        """The layers' directories for overlayfs, topmost first; never empty."""
        refs = layers.layers if isinstance(layers, Image) else layers
        return [self.layout.layer_dir(ref.diff_id) for ref in reversed(refs)] or [self.layout.empty]

    def children(self, image_id: str) -> list[str]:
        """Ids of the images that were made here from this one."""
        return [image.id for image in self._images.values() if image.parent == image_id]

    # changing

    def tag(self, image_id: str, name: str) -> str:
        """Give an image a name, taking it from whoever had it. Returns the name as Docker prints it."""
        image = self.get(image_id)
        familiar = reference.parse_tag(name).familiar
        if familiar not in image.names:
            self._untag(familiar)
            self._put(replace(image, names=tuple(sorted({*image.names, familiar}))))
            self._write()
        return familiar

    def untag(self, name: str) -> str:
        """Take a name away; the image stays, perhaps without any. Returns the name. Raises NotFound."""
        familiar = reference.parse(name).tagged().familiar
        if familiar not in self._names:
            raise NotFound(f"No such image: {familiar}")
        self._untag(familiar)
        self._write()
        return familiar

    def register(
        self, config: oci.ImageConfig, layers: Sequence[LayerRef], names: Iterable[str] = (), parent: str = ""
    ) -> Image:
        """Make an image of layers that a job has unpacked. `config.rootfs` is set from the layers.

        Writes config, manifest and index. The same config and layers give the same image, which gets the names too.
        """
        diff_ids = [layer.diff_id for layer in layers]
        config_bytes = oci.encode(msgspec.structs.replace(config, rootfs=oci.RootFS(diff_ids=diff_ids)))
        manifest = oci.manifest_of(
            oci.Descriptor(
                media_type=oci.OCI_CONFIG, digest=self.layout.write_blob(config_bytes), size=len(config_bytes)
            ),
            [
                oci.Descriptor(media_type=layer.media_type, digest=layer.blob_digest, size=layer.blob_size)
                for layer in layers
            ],
        )
        return self.adopt(self.layout.write_blob(oci.encode(manifest)), names, parent)

    def adopt(self, manifest_digest: str, names: Iterable[str] = (), parent: str = "") -> Image:
        """Make an image of a manifest whose config and layers a job has brought into the store (load, pull)."""
        tags = [reference.parse_tag(name).familiar for name in names]
        image = self._load(manifest_digest, (), parent)
        image = self._images.get(image.id, image)
        for tag in tags:
            if tag not in image.names:
                self._untag(tag)
        self._put(replace(image, names=tuple(sorted({*image.names, *tags}))))
        self._write()
        return self._images[image.id]

    def remove(self, image_id: str) -> None:
        """Forget an image and its names. Content goes with the next `collect`; policy is in image/delete.py."""
        image = self._images.pop(image_id)
        for name in image.names:
            del self._names[name]
        self._write()

    # garbage

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing is collected while a job brings layers that no image refers to yet: from its start to `register`."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def collect(self, keep_layers: Iterable[str] = (), keep_blobs: Iterable[str] = ()) -> Garbage:
        """Take out what no image refers to but `keep_layers` (diff ids: containers, build cache) and `keep_blobs`.

        Fast: things are renamed into tmp/; the job `image.sweep` removes them. While held nothing is taken: ask again.
        """
        if self._holds:
            return Garbage()
        layers = {oci.digest_hex(diff_id) for diff_id in keep_layers}
        blobs = {oci.digest_hex(digest) for digest in keep_blobs} | {oci.digest_hex(it.digest) for it in self._foreign}
        for image in self._images.values():
            blobs |= {oci.digest_hex(image.id), oci.digest_hex(image.manifest_digest)}
            for ref in image.layers:
                layers.add(oci.digest_hex(ref.diff_id))
                blobs.add(oci.digest_hex(ref.blob_digest))
        if self.problems:  # what a damaged image refers to is not known, so everything may be its
            return Garbage()
        return self._discard(layers, blobs)

    def _discard(self, layers: set[str], blobs: set[str]) -> Garbage:
        names: list[str | None] = []
        gone: list[str] = []
        size = 0
        for name in os.listdir(self.layout.layers):
            if len(name) != 64:
                continue
            ref = self.layout.layer(f"sha256:{name}")
            if name in layers:
                blobs |= {oci.digest_hex(ref.blob_digest)} if ref else set()
                continue
            size += ref.size if ref else 0
            gone.append(f"sha256:{name}")
            names.append(self.layout.discard(f"{self.layout.layers}/{name}"))
        for entry in os.scandir(self.layout.blobs):
            if entry.name not in blobs:
                size += entry.stat(follow_symlinks=False).st_size
                names.append(self.layout.discard(entry.path))
        return Garbage(tuple(name for name in names if name), tuple(gone), size)

    # index.json

    def _read(self) -> None:
        try:
            with open(self.layout.index, "rb") as file:
                index = oci.decode_index(file.read(oci.MAX_DOCUMENT + 1))
        except FileNotFoundError:
            self._write()
            return
        for descriptor in index.manifests:
            notes = descriptor.annotations or {}
            try:
                image = self._load(descriptor.digest, (), notes.get(_PARENT, ""))
                name = notes.get(oci.CONTAINERD_NAME, "")
                names = (reference.parse_tag(name).familiar,) if name else ()
            except (SampanError, OSError) as error:
                self.problems.append(f"image {descriptor.digest} cannot be read: {error}")
                self._foreign.append(descriptor)
                continue
            known = self._images.get(image.id, image)
            self._put(replace(known, names=tuple(sorted({*known.names, *names}))))

    def _load(self, manifest_digest: str, names: tuple[str, ...], parent: str) -> Image:
        manifest = oci.decode_manifest(self.layout.read_blob(manifest_digest))
        config = oci.decode_config(self.layout.read_blob(manifest.config.digest))
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"invalid image: the config has {len(diff_ids)} layers, the manifest {len(manifest.layers)}"
            )
        layers = tuple(map(self._layer, diff_ids, manifest.layers))
        return Image(
            id=manifest.config.digest, config=config, manifest_digest=manifest_digest, layers=layers, names=names,
            created=config.created or "", size=sum(layer.size for layer in layers), parent=parent,
        )

    def _layer(self, diff_id: str, blob: oci.Descriptor) -> LayerRef:
        known = self.layout.layer(diff_id)
        if known is None:
            raise NotFound(f"layer {diff_id} is not in the store")
        return LayerRef(diff_id, blob.digest, blob.media_type, blob.size, known.size)

    def _write(self) -> None:
        manifests: list[oci.Descriptor] = []
        for image in self._images.values():
            size = os.path.getsize(self.layout.blob_path(image.manifest_digest))
            parent = {_PARENT: image.parent} if image.parent else {}
            for name in image.names or ("",):
                full = str(reference.parse(name)) if name else ""
                # skopeo and umoci look for ref.name, containerd and Docker for the other one
                named = {oci.REF_NAME: full, oci.CONTAINERD_NAME: full} if name else {}
                manifests.append(oci.Descriptor(
                    media_type=oci.OCI_MANIFEST, digest=image.manifest_digest, size=size,
                    annotations={**named, **parent} or None,
                ))
        index = oci.Index(media_type=oci.OCI_INDEX, manifests=manifests + self._foreign)
        self.layout.write(self.layout.index, oci.encode(index))

    # in memory

    def _put(self, image: Image) -> None:
        self._images[image.id] = image
        for name in image.names:
            self._names[name] = image.id

    def _untag(self, name: str) -> None:
        owner = self._names.pop(name, None)
        if owner is not None:
            image = self._images[owner]
            self._images[owner] = replace(image, names=tuple(it for it in image.names if it != name))

    def _by_digest(self, named: reference.Reference) -> str | None:
        for image in self._images.values():
            repositories = {reference.parse(name).repository for name in image.names}
            if named.digest in (image.manifest_digest, image.id) and named.repository in repositories:
                return image.id
        return None

    def _by_prefix(self, prefix: str) -> str | None:
        found = [image_id for image_id in self._images if image_id.startswith(f"sha256:{prefix}")]
        if len(found) > 1:
            raise Conflict(f"multiple IDs found with provided prefix: {prefix}")
        return found[0] if found else None
