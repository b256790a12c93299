"""The build cache: which step on which image gave what. One JSON file a step in DATA_ROOT/build/cache.

A key holds everything a step's result depends on: the id of the image before it and the instruction with its words
expanded, for COPY and ADD the content of the files, for RUN the arguments. Only steps that were built here get in:
images that somebody loads or pulls are never taken for a step's result (CVE-2024-24557). The engine process is the only
user. What a crash left half-written does not parse and is no hit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from sampan.image.layout import LayerRef, Layout
from sampan.oci import image as oci

_KEY = re.compile(r"[0-9a-f]{64}\.json")


class CachedStep(msgspec.Struct):
    """`image_id` is the id of the image that the step made, `config` its config (with the diff ids of `layers`).

    Times are seconds since 1970.
    """

    key: str
    parent: str
    instruction: str
    image_id: str
    config: oci.ImageConfig
    layers: list[LayerRef]
    size: int
    created: float
    used: float
    uses: int = 0


def key_of(parent: str, *parts: object) -> str:
    """The key of a step on the image `parent`; the parts are anything JSON can say."""
    return hashlib.sha256(msgspec.json.encode([parent, *parts], order="deterministic")).hexdigest()


class Cache:
    """Raises OSError with a path when the disk fails; never for damaged content."""

    def __init__(self, directory: str, layout: Layout) -> None:
        self._directory = directory
        self._layout = layout
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def get(self, key: str) -> CachedStep | None:
        """The step, if its layers are all there; it counts as used."""
        step = self._read(key)
        if step is None:
            return None
        if not all(self._has(ref) for ref in step.layers):
            self._drop(key)
            return None
        step.used, step.uses = time.time(), step.uses + 1
        with contextlib.suppress(OSError):  # a full disk does not spoil a hit
            self._write(step)
        return step

    def put(self, step: CachedStep) -> None:
        self._write(step)

    def steps(self) -> Iterator[CachedStep]:
        """Every step, in no order."""
        for name in os.listdir(self._directory):
            if _KEY.fullmatch(name):
                step = self._read(name.removesuffix(".json"))
                if step is not None:
                    yield step

    def layers(self) -> set[str]:
        """The diff ids of all layers that steps refer to: a collector keeps them."""
        return {ref.diff_id for step in self.steps() for ref in step.layers}

    def prune(self, unused_since: float | None = None, keys: list[str] | None = None) -> list[CachedStep]:
        """Forget steps: those not used since then (None: any), of `keys` (None: of all). Returns them.

        Their layers stay until the store's next `collect`.
        """
        gone = [
            step for step in self.steps()
            if (unused_since is None or step.used < unused_since) and (keys is None or step.key in keys)
        ]
        for step in gone:
            self._drop(step.key)
        return gone

    def records(self) -> list[dict[str, Any]]:
        """As the Docker Engine API lists them (BuildCache of /system/df), most recently used first."""
        steps = sorted(self.steps(), key=lambda step: step.used, reverse=True)
        makers = {step.image_id: step.key for step in steps}
        return [_record(step, makers.get(step.parent)) for step in steps]

    def _has(self, ref: LayerRef) -> bool:
        known = self._layout.layer(ref.diff_id)
        return known is not None and os.path.isdir(self._layout.layer_dir(ref.diff_id)) and self._layout.has_blob(
            ref.blob_digest
        )

    def _path(self, key: str) -> str:
        return f"{self._directory}/{key}.json"

    def _read(self, key: str) -> CachedStep | None:
        try:
            with open(self._path(key), "rb") as file:
                step = msgspec.json.decode(file.read(), type=CachedStep)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._drop(key)
            return None
        if step.key != key or oci.digest_of(oci.encode(step.config)) != step.image_id:
            self._drop(key)
            return None
        return step

    def _write(self, step: CachedStep) -> None:
        path = self._path(step.key)
        new = f"{path}.new"
        try:
            with open(new, "wb") as file:
                file.write(msgspec.json.encode(step))
            os.rename(new, path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            raise

    def _drop(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(key))


def _record(step: CachedStep, parent: str | None) -> dict[str, Any]:
    return {
        "ID": step.key[:24], "Parents": [parent[:24]] if parent else [], "Type": "regular",
        "Description": step.instruction, "InUse": False, "Shared": False, "Size": step.size,
        "CreatedAt": _rfc3339(step.created), "LastUsedAt": _rfc3339(step.used), "UsageCount": step.uses,
    }


def _rfc3339(seconds: float) -> str:
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 10**9):09d}Z"
