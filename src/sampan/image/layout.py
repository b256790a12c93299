"""Where images are on disk, and the only writers of it: an OCI image layout and the unpacked layers beside it.

    DATA_ROOT/image/oci-layout, index.json, blobs/sha256/<hex>       skopeo, umoci, crane read it
    DATA_ROOT/layers/<diff id hex>/ + <diff id hex>.json             an unpacked layer and what is known of it
    DATA_ROOT/layers/empty/                                          the lower directory of an image without layers
    DATA_ROOT/tmp/                                                   half-made things; what a crash leaves is garbage

Everything is made in tmp/ and renamed, so at any moment each of these is either absent or complete. A layer counts
once its .json is there. Engine and workers use this at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator

import msgspec

from sampan.errors import Internal, NotFound
from sampan.linux import paths
from sampan.oci import image as oci


class LayerRef(msgspec.Struct, frozen=True):
    """A layer: its identity (`diff_id`: sha256 of the uncompressed tar), its blob, the bytes of its files unpacked."""

    diff_id: str
    blob_digest: str
    media_type: str
    blob_size: int
    size: int


class Layout:
    """The paths and atomic writes below one data root. Cheap to make; holds nothing open."""

    def __init__(self, data_root: str | os.PathLike[str]) -> None:
        root = os.fspath(data_root)
        self.root = root
        self.image = f"{root}/image"
        self.blobs = f"{root}/image/blobs/sha256"
        self.index = f"{root}/image/index.json"
        self.layers = f"{root}/layers"
        self.empty = f"{root}/layers/empty"
        self.tmp = f"{root}/tmp"

    def prepare(self) -> None:
        """Make what is missing. 0700: no user of the host walks in and finds setuid files (CVE-2021-41091)."""
        for directory in (self.image, self.layers, self.tmp):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)
        os.makedirs(self.blobs, exist_ok=True)
        os.makedirs(self.empty, mode=0o755, exist_ok=True)
        if not os.path.exists(f"{self.image}/oci-layout"):  # allowed: ours
            self.write(f"{self.image}/oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    def write(self, path: str, data: bytes) -> None:
        """Replace a small file, durably: complete or not at all, after a power failure too."""
        fd, temporary = tempfile.mkstemp(dir=self.tmp)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @contextlib.contextmanager
    def temporary(self, prefix: str) -> Iterator[str]:
        """A directory of one's own in tmp/, removed at the end with all that is still in it."""
        directory = tempfile.mkdtemp(prefix=f"{prefix}-", dir=self.tmp)
        try:
            yield directory
        finally:
            self.remove_temporary(os.path.basename(directory))

    def remove_temporary(self, name: str) -> None:
        """Remove one entry of tmp/ (a name, not a path) and all below it."""
        tmp = os.open(self.tmp, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            paths.remove_tree(tmp, name)
        finally:
            os.close(tmp)

    def blob_path(self, digest: str) -> str:
        return f"{self.blobs}/{oci.digest_hex(digest)}"

    def has_blob(self, digest: str) -> bool:
        return os.path.exists(self.blob_path(digest))

    def write_blob(self, data: bytes) -> str:
        """Store a small document; its digest."""
        digest = oci.digest_of(data)
        if not self.has_blob(digest):
            self.write(self.blob_path(digest), data)
        return digest

    def read_blob(self, digest: str) -> bytes:
        """A small document of the store. Raises NotFound if it is missing, Internal if it is not what its name says."""
        try:
            with open(self.blob_path(digest), "rb") as file:
                data = file.read(oci.MAX_DOCUMENT + 1)
        except FileNotFoundError as error:
            raise NotFound(f"content {digest} is not in the store") from error
        if oci.digest_of(data) != digest:
            raise Internal(f"content {digest} in the store is damaged")
        return data

    def keep_blob(self, temporary: str, digest: str) -> None:
        """A finished file of tmp/ becomes the blob `digest`. The caller has computed the digest while writing."""
        os.rename(temporary, self.blob_path(digest))

    def layer_dir(self, diff_id: str) -> str:
        return f"{self.layers}/{oci.digest_hex(diff_id)}"

    def _record(self, diff_id: str) -> str:
        return self.layer_dir(diff_id) + ".json"

    def layer(self, diff_id: str) -> LayerRef | None:
        """What is known of an unpacked layer; None if it is not here."""
        try:
            with open(self._record(diff_id), "rb") as file:
                return msgspec.json.decode(file.read(), type=LayerRef)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Internal(f"the record of layer {diff_id} is damaged: {error}") from error

    def keep_layer(self, directory: str, layer: LayerRef) -> LayerRef:
        """An unpacked directory of tmp/ becomes the layer's; the layer as it is now known.

        If the same layer was there already or came at the same moment, that one stays and `directory` is left.
        """
        with self._lock():
            known = self.layer(layer.diff_id)
            if known is not None:
                return known
            target = self.layer_dir(layer.diff_id)
            if os.path.lexists(target):  # a crash between the rename and the record
                os.rename(target, tempfile.mkdtemp(prefix="unrecorded-", dir=self.tmp))
            os.rename(directory, target)
            self.write(self._record(layer.diff_id), msgspec.json.encode(layer))
        return layer

    def discard(self, path: str) -> str | None:
        """Move a blob, or a layer's directory and record, into tmp/ at once; the name there, None if it is gone."""
        goal = tempfile.mkdtemp(prefix="garbage-", dir=self.tmp)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + ".json")  # allowed: ours, named by a digest
            os.rename(path, goal if os.path.isdir(path) else f"{goal}/blob")
        except FileNotFoundError:
            os.rmdir(goal)
            return None
        return os.path.basename(goal)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Between the processes that publish layers; held for a rename, gone with its holder."""
        lock = f"{self.layers}/.lock"
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
