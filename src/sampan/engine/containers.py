"""The Engine API's operations on containers: who they are and what they return. Each is in the file of its name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

from sampan.engine import archive, commit, create, inspection, listing, logs, pause, remove, rename, stats, stop, top
from sampan.engine import update as limits
from sampan.engine.context import Context
from sampan.engine.execs import ExecTable
from sampan.engine.filters import Filters
from sampan.engine.lifetime import Lifetime
from sampan.engine.logs import LogOptions
from sampan.errors import Conflict
from sampan.shim.messages import AttachedClient

Answers = list[dict[str, Any]]
Texts = list[str]
_MOST_EARLY = 64  # clients attached to a container that has not been started


class Containers:
    """`ref` is an id, a name, or the unique start of an id; all raise NotFound("No such container: REF")."""

    def __init__(self, ctx: Context, life: Lifetime, execs: ExecTable) -> None:
        self._ctx = ctx
        self._life = life
        self._execs = execs

    # -- life

    async def create(self, name: str | None, body: dict[str, Any]) -> dict[str, Any]:
        """`{"Id", "Warnings"}`. Raises InvalidArgument, NotFound (image), Conflict (name)."""
        container, warnings = await create.create(self._ctx, name, body)
        return {"Id": container.id, "Warnings": warnings}

    async def start(self, ref: str) -> None:
        """Returns once the program runs. Raises StartFailed (126, 127), NotModified, Conflict, …"""
        await self._life.start(self._ctx.index.find(ref))

    async def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> Texts:
        """Returns warnings: why the signal could not end it, so that it was killed. Raises NotModified."""
        return await stop.stop(self._ctx, self._life, self._ctx.index.find(ref), timeout, signal)

    async def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> Texts:
        """Returns the stop's warnings."""
        return await stop.restart(self._ctx, self._life, self._ctx.index.find(ref), timeout, signal)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Raises Conflict for a container that does not run, InvalidArgument."""
        await stop.kill(self._ctx, self._ctx.index.find(ref), signal)

    async def pause(self, ref: str) -> None:
        await pause.pause(self._ctx, self._ctx.index.find(ref))

    async def unpause(self, ref: str) -> None:
        await pause.unpause(self._ctx, self._ctx.index.find(ref))

    def wait(self, ref: str, condition: str = "not-running") -> asyncio.Future[dict[str, Any]]:
        """Registered with this call; `{"StatusCode", "Error"?}`. Cancel it when nobody listens any more."""
        return self._ctx.index.find(ref).wait(condition)

    # -- changes

    async def rename(self, ref: str, name: str) -> None:
        await rename.rename(self._ctx, self._ctx.index.find(ref), name)

    async def update(self, ref: str, body: dict[str, Any]) -> dict[str, Any]:
        """`{"Warnings"}`."""
        return await limits.update(self._ctx, self._ctx.index.find(ref), body)

    async def remove(self, ref: str, force: bool = False, volumes: bool = False) -> None:
        """`volumes`: its anonymous volumes too. Raises Conflict for a running one without `force`."""
        await remove.remove(self._ctx, self._life, self._ctx.index.find(ref), force, volumes)

    async def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """`{"ContainersDeleted", "SpaceReclaimed"}`."""
        return await remove.prune(self._ctx, self._life, filters or {})

    # -- looking

    async def list(
        self, all: bool = False, limit: int | None = None, size: bool = False, filters: Filters | None = None
    ) -> Answers:
        """`GET /containers/json`, newest first."""
        found = listing.summaries(self._ctx, all, limit, filters or {})
        if size:
            for summary in found:
                summary |= await self._sizes(summary["Id"])
        return found

    async def inspect(self, ref: str, size: bool = False) -> dict[str, Any]:
        """`GET /containers/REF/json`."""
        container = self._ctx.index.find(ref)
        found = inspection.details(self._ctx, container, self._execs.running(container))
        return found | (await self._sizes(container.id) if size else {})

    async def _sizes(self, id: str) -> dict[str, int]:
        container = self._ctx.index.find(id)
        written = await archive.size(self._ctx, container)
        layers = [self._ctx.store.layout.layer(diff_id) for diff_id in container.record.layers]
        return {"SizeRw": written, "SizeRootFs": written + sum(layer.size for layer in layers if layer)}

    def top(self, ref: str, ps_args: str = "-ef") -> dict[str, Any]:
        """`{"Titles", "Processes"}`."""
        container = self._ctx.index.find(ref)
        table = top.top(self._ctx, container, ps_args)
        self._ctx.publish(container, "top")
        return table

    def stats(self, ref: str, stream: bool = True, one_shot: bool = False) -> AsyncIterator[dict[str, Any]]:
        """One answer a second, or one in all. Close the iterator to stop."""
        return stats.stream(self._ctx.index.find(ref), stream, one_shot)

    # -- streams: the client's socket is taken, whatever happens

    def check_attach(self, ref: str) -> bool:
        """Can somebody attach? Raises Conflict; else True for a terminal (raw stream)."""
        container = self._ctx.index.find(ref)
        container.check("attach")
        return container.record.tty

    async def attach(self, ref: str, client: AttachedClient, logs: bool = False, stream: bool = True) -> None:
        """The shim talks to the client from now on, or from the start on. Raises Conflict, NotFound."""
        try:
            await self._attach(ref, client, logs, stream)
        except BaseException:
            client.sock.close()
            raise

    async def _attach(self, ref: str, client: AttachedClient, history: bool, stream: bool) -> None:
        container = self._ctx.index.find(ref)
        container.check("attach")
        self._ctx.publish(container, "attach")
        if history:
            options = LogOptions(client.options.stdout, client.options.stderr)
            job = logs.read(self._ctx, container, options, client.sock.dup(), framed=not container.record.tty)
            await logs.finish(job)
        if not stream:
            client.sock.close()
        elif container.shim is not None:
            await container.shim.attach(client)
        elif len(container.early) >= _MOST_EARLY:
            raise Conflict(f"too many clients wait for container {container.name} to start")
        else:
            container.early.append(client)

    def check_logs(self, ref: str) -> bool:
        """Can the log be read? Raises InvalidArgument; else True for a terminal's (raw stream)."""
        return logs.check(self._ctx.index.find(ref))

    async def logs(self, ref: str, options: LogOptions, sock: socket.socket) -> None:
        """A forked reader writes the log to the socket and closes it; returns at once."""
        try:
            container = self._ctx.index.find(ref)
        except BaseException:
            sock.close()
            raise
        job = logs.read(self._ctx, container, options, sock, framed=not container.record.tty)
        self._life.soon(logs.finish(job), leavable=True)

    async def resize(self, ref: str, height: int, width: int) -> None:
        container = self._ctx.index.find(ref)
        container.check("resize")
        if container.shim is not None:
            await container.shim.resize(height, width)
            self._ctx.publish(container, "resize", height=str(height), width=str(width))

    # -- files

    async def changes(self, ref: str) -> Answers:
        """`docker diff`: `[{"Path", "Kind": 0 changed | 1 added | 2 deleted}]`."""
        return await archive.changes(self._ctx, self._ctx.index.find(ref))

    async def export(self, ref: str, fd: int) -> None:
        """A tar of the root, written to `fd`."""
        await archive.export(self._ctx, self._ctx.index.find(ref), fd)

    async def archive_stat(self, ref: str, path: str) -> dict[str, Any]:
        """`{"name", "size", "mode", "mtime", "linkTarget"}`."""
        return await archive.stat_path(self._ctx, self._ctx.index.find(ref), path)

    async def archive_get(self, ref: str, path: str, fd: int) -> None:
        """A tar of `path`, written to `fd`."""
        await archive.get(self._ctx, self._ctx.index.find(ref), path, fd)

    async def archive_put(self, ref: str, path: str, fd: int, no_overwrite: bool = False) -> None:
        """Unpack the tar read from `fd` into the directory `path`."""
        await archive.put(self._ctx, self._ctx.index.find(ref), path, fd, no_overwrite)

    async def commit(
        self, ref: str, repository: str = "", tag: str = "", message: str = "", author: str = "", pause: bool = True,
        changes: Texts | None = None, config: dict[str, Any] | None = None,
    ) -> str:
        """The id of the image made from the container."""
        return await commit.commit(
            self._ctx, self._ctx.index.find(ref), repository, tag, message, author, pause, changes or [], config or {}
        )
