"""A job of image/ that makes something, in a directory of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from sampan.errors import SampanError
from sampan.image.layout import Layout
from sampan.jobs.client import ForkServer

log = logging.getLogger(__name__)


async def run(
    worker: ForkServer, layout: Layout, job: str, args: dict[str, Any], fds: Sequence[int] = (),
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """As `worker.run`. What a job leaves half-made is removed: one whose client went away is killed, gigabytes into a
    layer perhaps, and cannot do it itself.
    """
    name = f"job-{secrets.token_hex(8)}"
    os.mkdir(f"{layout.tmp}/{name}", 0o700)
    try:
        return await worker.run(job, {"data_root": layout.root, "workspace": name, **args}, fds, on_progress)
    finally:
        try:
            os.rmdir(f"{layout.tmp}/{name}")
        except OSError:  # something is in it
            await asyncio.shield(asyncio.ensure_future(_remove(worker, layout, name)))


async def _remove(worker: ForkServer, layout: Layout, name: str) -> None:
    try:
        await worker.run("image.sweep", {"data_root": layout.root, "names": [name]})
    except SampanError as error:  # the next engine does it
        log.warning("%s/%s could not be removed: %s", layout.tmp, name, error)
