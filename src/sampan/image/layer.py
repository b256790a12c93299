"""A layer: from a tar stream, or from the upper directory of an overlay. Unpacked once, kept as a blob beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from sampan.errors import InvalidArgument
from sampan.image.beside import Beside
from sampan.image.layout import LayerRef, Layout
from sampan.image.pack import Packer, PackRules
from sampan.image.stream import MEDIA_TYPES, BlobWriter, Source
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker

Progress = Callable[[int], object]

#: the layer of a step that changed nothing: the digest of an archive without entries
EMPTY_DIFF_ID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAYER = Rules(layer=True, root=True)


def unpack(
    layout: Layout, source: Source, keep_raw: bool | None = None, expect: str = "", expect_blob: str = ""
) -> tuple[LayerRef, list[str]]:
    """Make a layer of a tar stream; with the warnings of unpacking. The process's umask must be 0.

    The blob is the stream as it came if it is gzip or zstd or `keep_raw` says so; else it is compressed to gzip.
    `expect` is the diff id it must have, `expect_blob` the digest of its blob. Raises InvalidArgument for a bad
    archive; then nothing stays in the store.
    """
    raw = source.kind in ("gzip", "zstd") if keep_raw is None else keep_raw
    with layout.temporary("layer") as tmp:
        with BlobWriter(f"{tmp}/blob", compress=not raw) as blob, Beside() as beside:
            source.do = beside.put
            if raw:
                source.on_raw = blob.write
            else:
                source.on_plain = blob.write
            root = _new_root(tmp)
            try:
                unpacker = Unpacker(root, _LAYER)
                unpacker.run(Reader(source.chunk))
            finally:
                os.close(root)
            beside.finish()
            digest = blob.finish()
        if source.plain_size == 0:
            raise InvalidArgument("the archive is empty")
        if expect and source.diff_id != expect:
            raise InvalidArgument(f"a layer of the archive is {source.diff_id}, the image's config says {expect}")
        if expect_blob and digest != expect_blob:
            raise InvalidArgument(f"{expect_blob} in the archive is not what its digest says")
        kind = MEDIA_TYPES[source.kind if raw else "gzip"]
        ref = LayerRef(source.diff_id, digest, kind, blob.size, unpacker.size)
        return _keep(layout, ref, tmp), unpacker.warnings


def commit(layout: Layout, upper: str, move: bool, progress: Progress | None = None) -> tuple[LayerRef, list[str]]:
    """Make a layer of an overlay's upper directory, the difference to what is below it.

    With `move` the directory itself becomes the layer's and is gone from where it was: no overlay may use it, and
    it must be on the store's file system. Without, it is copied, and may change meanwhile as files may.
    """
    with layout.temporary("commit") as tmp:
        with BlobWriter(f"{tmp}/blob", compress=True) as blob:
            packer, diff_id = _pack_upper(upper, move, blob, progress)
            digest = blob.finish()
        ref = LayerRef(diff_id, digest, MEDIA_TYPES["gzip"], blob.size, packer.size)
        if move:
            os.rename(upper, f"{tmp}/fs")  # allowed: our own tmp/
        elif layout.layer(diff_id) is None:
            _unpack_blob(blob.path, tmp)
        return _keep(layout, ref, tmp), packer.warnings


def take(layout: Layout, source: Source, diff_id: str, digest: str) -> None:
    """Bring the blob `digest` of the layer `diff_id` into the store as it is; unpack it if the layer is not there.

    Raises InvalidArgument if the stream is not both.
    """
    if source.kind not in MEDIA_TYPES:
        raise InvalidArgument(f"a layer compressed with {source.kind} is not supported")
    if layout.layer(diff_id) is None:
        unpack(layout, source, keep_raw=True, expect=diff_id, expect_blob=digest)
        return
    with layout.temporary("blob") as tmp, BlobWriter(f"{tmp}/blob", compress=False) as blob:
        source.on_raw = blob.write
        while source.chunk():
            pass
        if source.diff_id != diff_id or blob.finish() != digest:
            raise InvalidArgument(f"{digest} in the archive is not what its digest says")
        layout.keep_blob(blob.path, digest)


def _pack_upper(upper: str, move: bool, blob: BlobWriter, progress: Progress | None) -> tuple[Packer, str]:
    plain = hashlib.sha256()
    size = 0

    def keep(data: bytes) -> None:
        plain.update(data)
        blob.write(data)

    def out(data: bytes) -> None:
        nonlocal size
        beside.put(keep, data)
        size += len(data)
        if progress is not None:
            progress(size)

    packer = Packer(out, PackRules(layer=True, drop_sockets=move))
    fd = os.open(upper, _DIR)
    try:
        with Beside() as beside:
            status = os.fstat(fd)
            if (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (0o755, 0, 0):
                packer.directory(fd, b"./")  # a changed root; the usual one needs no entry
            packer.tree(fd, b"")
            packer.finish()
            beside.finish()
    finally:
        os.close(fd)
    return packer, "sha256:" + plain.hexdigest()


def _new_root(tmp: str) -> int:
    os.mkdir(f"{tmp}/fs", 0o755)  # allowed: our own tmp/
    return os.open(f"{tmp}/fs", _DIR)  # allowed: our own tmp/


def _unpack_blob(path: str, tmp: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    root = _new_root(tmp)
    try:
        Unpacker(root, _LAYER).run(Reader(Source(fd).chunk))
    finally:
        os.close(root)
        os.close(fd)


def _keep(layout: Layout, ref: LayerRef, tmp: str) -> LayerRef:
    """The blob first: a recorded layer always has one. Others may have brought the same layer meanwhile."""
    layout.keep_blob(f"{tmp}/blob", ref.blob_digest)
    known = layout.layer(ref.diff_id)
    return known if known is not None else layout.keep_layer(f"{tmp}/fs", ref)
