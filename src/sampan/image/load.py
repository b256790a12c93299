"""Images from an archive: docker-archive (`docker save`, manifest.json) or an OCI layout in a tar (index.json).

The archive is unpacked into tmp/ first, because what comes first in it need not be what is needed first. Only files,
directories and links inside it are taken (CVE-2026-50195), and nothing is believed that was not hashed: a layer is
what its diff id says, a blob what its digest says (CVE-2014-8179).
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Callable
from typing import TypeVar

import msgspec

from sampan.errors import InvalidArgument, SampanError, Unsupported
from sampan.image import layer, reference
from sampan.image.layout import LayerRef, Layout
from sampan.image.stream import Source
from sampan.image.tar.entry import shown
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker
from sampan.linux import paths
from sampan.oci import image as oci

_MAX_IMAGES = 1000
_MAX_NESTED = 3
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY

T = TypeVar("T")
#: told about each layer: (diff id, bytes read, bytes in all)
Progress = Callable[[str, int, int], object]


class Loaded(msgspec.Struct, frozen=True):
    """An image that is in the store now but for its registration (`Store.adopt`)."""

    manifest: str
    id: str
    names: list[str]


class _Member(msgspec.Struct, rename="pascal"):
    """An image in manifest.json."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def load(layout: Layout, source: Source, progress: Progress | None = None) -> list[Loaded]:
    """Bring all images of an archive into the store. The process's umask must be 0.

    Raises InvalidArgument for an archive that is broken or lies. Layers and blobs that were complete before that stay
    in the store until it collects.
    """
    with layout.temporary("load") as tmp:
        root = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            Unpacker(root, Rules(owner=(0, 0), special=False)).run(Reader(source.chunk))
            return _Loader(layout, root, progress).run()
        finally:
            os.close(root)


class _Loader:
    def __init__(self, layout: Layout, root: int, progress: Progress | None) -> None:
        self._layout = layout
        self._root = root
        self._progress = progress

    def run(self) -> list[Loaded]:
        if paths.exists(self._root, "manifest.json"):
            members = oci.decode(self._read("manifest.json"), list[_Member], "manifest.json")
            if len(members) > _MAX_IMAGES:
                raise InvalidArgument(f"the archive has more than {_MAX_IMAGES} images")
            return [self._docker(member) for member in members]
        if paths.exists(self._root, "index.json"):
            return self._index(oci.decode_index(self._read("index.json")), 0)
        raise InvalidArgument(
            "the archive holds no image: it has neither manifest.json nor index.json "
            "(a root file system becomes an image by `import`)"
        )

    # docker-archive

    def _docker(self, member: _Member) -> Loaded:
        names = [str(reference.parse_tag(name)) for name in member.repo_tags or ()]
        config_bytes = self._read(member.config)
        config = _decode_config(config_bytes)
        diff_ids = config.rootfs.diff_ids
        if len(member.layers) != len(diff_ids):
            raise InvalidArgument(
                f"invalid manifest, layers length mismatch: expected {len(member.layers)}, got {len(diff_ids)}"
            )
        layers = [self._unpacked(path, diff_id) for path, diff_id in zip(member.layers, diff_ids, strict=True)]
        manifest = oci.manifest_of(
            oci.Descriptor(
                media_type=oci.OCI_CONFIG, digest=self._layout.write_blob(config_bytes), size=len(config_bytes)
            ),
            [oci.Descriptor(media_type=it.media_type, digest=it.blob_digest, size=it.blob_size) for it in layers],
        )
        return Loaded(self._layout.write_blob(oci.encode(manifest)), oci.digest_of(config_bytes), names)

    def _unpacked(self, path: str, diff_id: str) -> LayerRef:
        known = self._layout.layer(diff_id)
        if known is not None:  # hashed when it came
            return known
        return self._open(path, diff_id, lambda source: layer.unpack(self._layout, source, expect=diff_id)[0])

    # OCI layout

    def _index(self, index: oci.Index, depth: int) -> list[Loaded]:
        if depth > _MAX_NESTED or len(index.manifests) > _MAX_IMAGES:
            raise InvalidArgument("the archive's image index is too large or nested too deeply")
        loaded: list[Loaded] = []
        for descriptor in index.manifests:
            if descriptor.platform is not None and descriptor.platform.architecture == "unknown":
                continue  # an attestation
            if descriptor.media_type in oci.INDEX_TYPES:
                nested = oci.decode_index(self._blob(descriptor))
                nested.manifests = _for_this_host(nested.manifests)
                found = self._index(nested, depth + 1)
                names = _names(descriptor)
                loaded += [msgspec.structs.replace(it, names=names or it.names) for it in found]
            elif descriptor.media_type in oci.MANIFEST_TYPES:
                loaded.append(self._manifest(descriptor))
        if not loaded:
            raise InvalidArgument("the archive holds no image for this host")
        return _merged(loaded)

    def _manifest(self, descriptor: oci.Descriptor) -> Loaded:
        data = self._blob(descriptor)
        manifest = oci.decode_manifest(data)
        if manifest.config.media_type not in oci.CONFIG_TYPES:
            raise Unsupported(f"the archive holds no image but {shown(manifest.config.media_type.encode())!r}")
        config_bytes = self._blob(manifest.config)
        diff_ids = _decode_config(config_bytes).rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"invalid manifest, layers length mismatch: expected {len(manifest.layers)}, got {len(diff_ids)}"
            )
        for blob, diff_id in zip(manifest.layers, diff_ids, strict=True):
            self._layer(blob, diff_id)
        self._layout.write_blob(config_bytes)
        return Loaded(self._layout.write_blob(data), manifest.config.digest, _names(descriptor))

    def _layer(self, blob: oci.Descriptor, diff_id: str) -> None:
        if blob.media_type not in oci.LAYER_TYPES:
            raise Unsupported(f"a layer of the media type {shown(blob.media_type.encode())!r} is not supported")
        if self._layout.layer(diff_id) is not None and self._layout.has_blob(blob.digest):
            return
        self._open(
            "blobs/sha256/" + oci.digest_hex(blob.digest), diff_id,
            lambda source: layer.take(self._layout, source, diff_id, blob.digest),
        )

    def _blob(self, descriptor: oci.Descriptor) -> bytes:
        data = self._read("blobs/sha256/" + oci.digest_hex(descriptor.digest))
        if oci.digest_of(data) != descriptor.digest or len(data) != descriptor.size:
            raise InvalidArgument(f"{descriptor.digest} in the archive is not what its digest says")
        return data

    # files of the archive

    def _read(self, path: str) -> bytes:
        try:
            return paths.read_file(self._root, path, oci.MAX_DOCUMENT)
        except OSError as error:
            raise InvalidArgument(f"cannot read {shown(path.encode())!r} in the archive: {error.strerror}") from error

    def _open(self, path: str, diff_id: str, use: Callable[[Source], T]) -> T:
        name = shown(path.encode())
        try:
            fd = paths.open_in_root(self._root, path, _READ)
        except OSError as error:
            raise InvalidArgument(f"cannot read {name!r} in the archive: {error.strerror}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgument(f"{name!r} in the archive is not a regular file")
            source = Source(fd)
            if (progress := self._progress) is not None:
                source.on_progress = lambda current: progress(diff_id, current, status.st_size)
            return use(source)
        finally:
            os.close(fd)


def _decode_config(data: bytes) -> oci.ImageConfig:
    config = oci.decode_config(data)
    if config.os not in ("", "linux"):
        raise InvalidArgument(f"cannot load {shown(config.os.encode())} image on linux")
    return config


def _names(descriptor: oci.Descriptor) -> list[str]:
    """The name an OCI layout gives a manifest. A bare tag is none: nobody knows of what."""
    notes = descriptor.annotations or {}
    for text in (notes.get(oci.CONTAINERD_NAME, ""), notes.get(oci.REF_NAME, "")):
        if ":" in text or "/" in text:
            try:
                return [str(reference.parse_tag(text))]
            except SampanError:
                continue  # free text, by the specification
    return []


def _for_this_host(manifests: list[oci.Descriptor]) -> list[oci.Descriptor]:
    """Of an image for several platforms the one for this; without platforms all."""
    machine = platform.machine()
    wanted = _ARCHITECTURES.get(machine, machine)
    named = [it for it in manifests if it.platform is not None and it.platform.architecture != "unknown"]
    if not named:
        return manifests
    fitting = [it for it in named if it.platform and it.platform.os == "linux" and it.platform.architecture == wanted]
    return fitting[:1]


def _merged(loaded: list[Loaded]) -> list[Loaded]:
    """One entry per image, with all its names."""
    found: dict[str, Loaded] = {}
    for it in loaded:
        known = found.get(it.manifest)
        names = [*known.names, *(name for name in it.names if name not in known.names)] if known else it.names
        found[it.manifest] = Loaded(it.manifest, it.id, names)
    return list(found.values())
