"""Accidents of the engine's helpers: launcher, worker, netpool."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from sampan.jobs.client import ForkServer


class CountedServer(ForkServer):
    starts = 0

    def start(self) -> None:
        self.starts += 1
        super().start()


def test_all_requests_of_a_killed_server_are_served_by_one_new_one(tmp_path: Path) -> None:
    async def run() -> None:
        server = CountedServer("sampan.engine.worker")
        try:
            await server.run("image.tree_size", {"path": str(tmp_path)})
            assert server.pid is not None
            os.killpg(server.pid, signal.SIGSTOP)  # with its spares: nobody takes the requests
            asked = [asyncio.ensure_future(server.run("image.tree_size", {"path": str(tmp_path)})) for _ in range(8)]
            await asyncio.sleep(0)
            os.killpg(server.pid, signal.SIGKILL)
            assert len(await asyncio.gather(*asked)) == 8
            assert server.starts == 2
        finally:
            server.close()

    asyncio.run(run())
