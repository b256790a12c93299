"""RUN of a Dockerfile: a container that is in no list, runs once, and leaves its upper directory to the builder."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from sampan.build.step import RunResult, RunStep
from sampan.engine import config as settings
from sampan.engine import create, hostconfig, limits, stop
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.lifetime import Lifetime
from sampan.engine.record import MountPoint, Record
from sampan.shim.messages import AttachedClient, ClientOptions

_CHUNK = 65536


class StepRunner:
    """What build/step.py asks for."""

    def __init__(self, ctx: Context, life: Lifetime) -> None:
        self._ctx = ctx
        self._life = life

    async def run(self, step: RunStep, output: Callable[[bytes], None]) -> RunResult:
        """Run the step to its end; `output` gets both streams as they come. Raises StartFailed, InvalidArgument.

        Cancelled or failed: nothing of the container is left.
        """
        container = make_container(step)
        near, far = socket.socketpair()
        near.setblocking(False)
        try:
            self._make(container)
            container.early.append(AttachedClient(far, ClientOptions(False, True, True, True)))
            ended = container.wait("next-exit")
            await self._life.start(container)
            await _copy(near, output)
            await ended
            upper = self._take_upper(container)
        finally:
            near.close()
            await self._clear(container)
        if container.record.killed_by:
            output(f"{container.record.error}\n".encode())
        return RunResult(container.record.exit_code, upper, container.id)

    def _make(self, container: Container) -> None:
        ctx, directory = self._ctx, self._ctx.directory(container.id)
        container.record.host_config["Runtime"] = ctx.runtimes.default
        ctx.index.reserve(container.name, container.id)
        ctx.berths.take(directory)
        create.dress_root(f"{directory}/upper", container.lower[0])
        ctx.index.add(container)
        ctx.save(container)

    def _take_upper(self, container: Container) -> str:
        """Among the store's half-made things: there a crash's remains are swept."""
        upper = f"{self._ctx.store.layout.tmp}/step-{container.id}"
        os.rename(f"{self._ctx.directory(container.id)}/upper", upper)
        return upper

    async def _clear(self, container: Container) -> None:
        for client in container.take_early():
            client.sock.close()
        if container.id in self._ctx.index:
            container.record.stopped_by_user = True
            await stop.end(self._ctx, container)
            self._life.discard(container, volumes=False)
        self._ctx.index.release(container.name, container.id)


def make_container(step: RunStep) -> Container:
    """The container of a step, nothing of it on disk yet. Raises InvalidArgument for limits that cannot be."""
    host_config = hostconfig.host_config({
        "NetworkMode": step.network, "ExtraHosts": list(step.extra_hosts), "LogConfig": {"Type": "none"}, **step.limits,
    })
    limits.check(host_config)
    create.check_network(host_config, None)
    config: dict[str, Any] = settings.merge({
        "Cmd": step.args, "Entrypoint": [""], "Env": step.env, "User": step.user, "WorkingDir": step.workdir,
        "Hostname": step.id[:12], "Image": "",
    }, None)
    record = Record(
        id=step.id, name=f"build-{step.id[:12]}", created=time.time_ns(), image="", image_name="", config=config,
        host_config=host_config, internal=True,
        mounts=[MountPoint("bind", file.source, file.target, rw=False) for file in step.files],
    )
    record.path, record.args = settings.command(config)
    container = Container(record)
    container.lower = step.lower_dirs
    return container


async def _copy(sock: socket.socket, output: Callable[[bytes], None]) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, _CHUNK):
        output(data)
