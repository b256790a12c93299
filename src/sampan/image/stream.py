"""Compressed streams: recognised by their first bytes, read in bounded pieces, hashed on the way.

Decompressors are libraries in this process, never a program found by a name: a root file system has programs of its
own (CVE-2014-9357, CVE-2026-41567). Each gives at most CHUNK bytes at a time, whatever the input promises.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import select
from collections.abc import Callable
from typing import Protocol, Self, cast

import zstandard
from isal import igzip_lib, isal_zlib

from sampan.errors import InvalidArgument
from sampan.oci import image as oci

CHUNK = 1 << 18
MAX_PLAIN = 1 << 42  # bytes; where a stream of nothing but zeros ends
_XZ_MEMORY = 1 << 28
_ZSTD_WINDOW = 1 << 27
_ZSTD_STEP = 1 << 10  # bytes of input; at most 32 MiB of output, a block of four bytes can mean 128 KiB
_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_HEAD = 6
_IsalError = cast(type[Exception], isal_zlib.error)  # its stub says an instance

#: the kinds that a layer's blob may have, and its media type then
MEDIA_TYPES = {"": oci.OCI_LAYER, "gzip": oci.OCI_LAYER_GZIP, "zstd": oci.OCI_LAYER_ZSTD}


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


def _decompressor(kind: str) -> _Decompressor:
    if kind == "gzip":
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "zstd":
        return _Zstd()
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _read(fd: int) -> bytes:
    """The asker may have given a non-blocking descriptor; its description is shared, so it stays one."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            ready = select.poll()
            ready.register(fd, select.POLLIN)
            ready.poll()


def _at_once(work: Callable[[bytes], object], data: bytes) -> None:
    work(data)


class _Zstd:
    """zstandard with the interface of the others: it knows no bound of its output, but little input bounds it."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._data = b""
        self._at = 0

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def needs_input(self) -> bool:
        return self._at >= len(self._data)

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._data[self._at :]

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        if data:
            self._data, self._at = data, 0
        pieces: list[bytes] = []
        size = 0
        while size < max_length and not self.needs_input and not self.eof:
            piece = self._frame.decompress(self._data[self._at : self._at + _ZSTD_STEP])
            self._at += _ZSTD_STEP
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)


class Source:
    """A stream from a descriptor, plain or compressed: `kind` is "", "gzip", "zstd", "bzip2" or "xz".

    `on_raw` and `on_plain` see every byte as it comes and as it means; set them before the first `chunk`. `diff_id` and
    sizes are complete when `chunk` has returned b"". The descriptor stays the caller's. With `do` (Beside.put) the
    hashing and the two callbacks are done elsewhere, in order, and `diff_id` is complete when that is.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head = self._first()
        self.kind = next((kind for magic, kind in _MAGIC.items() if self._head.startswith(magic)), "")
        self.on_raw: Callable[[bytes], object] | None = None
        self.on_plain: Callable[[bytes], object] | None = None
        self.on_progress: Callable[[int], object] | None = None
        self.do: Callable[[Callable[[bytes], object], bytes], object] = _at_once
        self.raw_size = 0
        self.plain_size = 0
        self._plain_hash = hashlib.sha256()
        self._members = _Members(self.kind, self._read)

    @property
    def diff_id(self) -> str:
        """The digest of the uncompressed bytes."""
        return "sha256:" + self._plain_hash.hexdigest()

    def chunk(self) -> bytes:
        """The next uncompressed bytes, b"" at the end. Raises InvalidArgument for damaged data."""
        data = self._inflate() if self.kind else self._read()
        self.plain_size += len(data)
        if self.plain_size > MAX_PLAIN:
            raise InvalidArgument(f"the archive is larger than {MAX_PLAIN} bytes unpacked")
        if data:
            self.do(self._see, data)
        return data

    def _see(self, data: bytes) -> None:
        self._plain_hash.update(data)
        if self.on_plain is not None:
            self.on_plain(data)

    def _first(self) -> bytes:
        head = b""
        while len(head) < _HEAD and (data := _read(self._fd)):
            head += data
        return head

    def _read(self) -> bytes:
        data, self._head = self._head or _read(self._fd), b""
        self.raw_size += len(data)
        if self.on_raw is not None and data:
            self.do(self.on_raw, data)
        if self.on_progress is not None:
            self.on_progress(self.raw_size)
        return data

    def _inflate(self) -> bytes:
        try:
            return self._members.chunk()
        except (_IsalError, zstandard.ZstdError, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InvalidArgument(f"the archive is not valid {self.kind} data: {error}") from error


class _Members:
    """Compressed members one after the other, as pigz or `cat` make them; zeros may follow."""

    def __init__(self, kind: str, read: Callable[[], bytes]) -> None:
        self._kind, self._read = kind, read
        self._now: _Decompressor | None = None
        self._pending = b""

    def chunk(self) -> bytes:
        while True:
            now = self._now or self._start()
            if now is None:
                return b""
            data = self._pending
            self._pending = b""
            if not data and now.needs_input and not (data := self._read()):
                raise InvalidArgument("unexpected end of the archive")
            out = now.decompress(data, CHUNK)
            if now.eof:
                self._pending, self._now = now.unused_data, None
            if out:
                return out

    def _start(self) -> _Decompressor | None:
        """The next member, None after the last."""
        while not (data := self._pending.lstrip(b"\0") if self._pending else b""):
            self._pending = self._read()
            if not self._pending:
                return None
        self._pending = data
        self._now = _decompressor(self._kind)
        return self._now


class BlobWriter:
    """A file of tmp/ that becomes a blob (a context manager). `write` takes it as it is; `compress` makes it gzip.

    The same plain bytes always give the same blob (no time, no name in the gzip header).
    """

    def __init__(self, path: str, compress: bool) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hash = hashlib.sha256()
        self._gzip = isal_zlib.compressobj(1, wbits=31) if compress else None
        self.size = 0

    def write(self, data: bytes) -> None:
        self._put(data if self._gzip is None else self._gzip.compress(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def finish(self) -> str:
        """The last of it is written; its digest."""
        if self._gzip is not None:
            self._put(self._gzip.flush())
        return "sha256:" + self._hash.hexdigest()

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            error.filename = self.path
            raise
