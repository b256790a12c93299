"""Directories for containers, made ahead: creating one takes a file system up to half a millisecond, moving it a tenth.

DATA_ROOT/berths/NAME/{upper,work}, made by a worker while nobody waits; a new container's is one rename away.
"""

from __future__ import annotations

import asyncio
import logging
import os

from sampan.errors import SampanError
from sampan.jobs.client import ForkServer

log = logging.getLogger(__name__)

_FULL = 32
_LOW = 16


class Berths:
    def __init__(self, directory: str, worker: ForkServer) -> None:
        self._directory = directory
        self._worker = worker
        self._ready: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take over what an earlier engine has left, and have the rest made."""
        self._ready = [name for name in os.listdir(self._directory) if not name.startswith(".")]
        self._refill()

    def take(self, target: str) -> None:
        """Make `target` with its `upper` (0755) and `work` (0700). Raises OSError, and nothing is there."""
        if len(self._ready) <= _LOW:
            self._refill()
        while self._ready:
            try:
                os.rename(f"{self._directory}/{self._ready.pop()}", target)
                return
            except FileNotFoundError:
                continue  # somebody has tidied up behind our back
        make(target)

    def _refill(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._make())

    async def _make(self) -> None:
        try:
            args = {"path": self._directory, "count": _FULL - len(self._ready)}
            self._ready += (await self._worker.run("engine.make_berths", args))["names"]
        except SampanError as error:  # a full disk: whoever needs one will be told
            log.warning("no directories can be made ahead: %s", error)
        finally:
            self._task = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def make(target: str) -> None:
    """The directory of one container, all or nothing."""
    os.mkdir(target, 0o710)
    try:
        os.mkdir(f"{target}/upper", 0o755)
        os.mkdir(f"{target}/work", 0o700)
    except OSError:
        for name in ("/upper", ""):
            if os.path.isdir(target + name):
                os.rmdir(target + name)
        raise
