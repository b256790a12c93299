"""What is removed: renamed out of sight at once, deleted by a worker later, many at a time."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from pathlib import Path

from sampan.errors import SampanError
from sampan.jobs.client import ForkServer

log = logging.getLogger(__name__)

_DELAY = 0.5  # seconds: containers that end together are deleted together, and not while others start


class Trash:
    """A directory on the file system of the data root. What a killed engine left in it is deleted by the next one."""

    def __init__(self, directory: Path, worker: ForkServer) -> None:
        self._directory = directory
        self._worker = worker
        self._numbers = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._filled = False

    def take(self, path: Path) -> None:
        """Move a file or directory in; nothing there is no error. Raises OSError."""
        try:
            os.rename(path, f"{self._directory}/{os.getpid()}-{next(self._numbers)}-{path.name}")
        except FileNotFoundError:
            return
        self.empty_soon()

    def empty_soon(self) -> None:
        """Have everything in the directory deleted."""
        self._filled = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._empty())

    async def _empty(self) -> None:
        try:
            while self._filled:
                await asyncio.sleep(_DELAY)
                self._filled = False
                await self._worker.run("engine.empty_trash", {"path": str(self._directory)})
        except SampanError as error:
            log.warning("%s could not be emptied: %s", self._directory, error)
        finally:
            self._task = None

    async def settle(self) -> None:
        """Wait until what was taken is deleted."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """Leave the rest to the next engine."""
        if self._task is not None:
            self._task.cancel()
