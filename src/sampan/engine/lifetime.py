"""A container's runs: how each begins, how it ends, and what comes after.

An end is handled within the turn of the loop that brought the news: whoever waits is told at once, and no lock is
needed. A start takes several turns and holds the container's lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from sampan.engine import files, lifecycle, networking, remains, request, restart, timestamps
from sampan.engine.container import Container
from sampan.engine.context import KIND, Context
from sampan.engine.execs import ExecTable
from sampan.errors import Conflict, NotFound, SampanError, StartFailed
from sampan.shim.client import OnEvent, ShimClient
from sampan.shim.messages import Exit

log = logging.getLogger(__name__)

MEMORY_LIMIT = "memory limit of this container"
HOST_MEMORY = "host out of memory"
SHIM_LOST = "shim lost"
_KILLED = {
    MEMORY_LIMIT: "killed by the memory limit of this container (OOM): it needed more than --memory allows",
    HOST_MEMORY: "killed because the host, or a cgroup above this container's, ran out of memory (OOM)",
}


class Lifetime:
    def __init__(self, ctx: Context, execs: ExecTable) -> None:
        self._ctx = ctx
        self._execs = execs
        self._tasks: set[asyncio.Task[None]] = set()
        self._leavable: set[asyncio.Task[None]] = set()
        self._closing = False

    # -- beginning

    async def start(self, container: Container, by_policy: bool = False) -> None:
        """Run the container's program. Raises StartFailed, Conflict, NotModified, …: nothing half-made stays."""
        async with container.lock:
            if container.id not in self._ctx.index:
                raise NotFound(f"No such container: {container.id}")
            if by_policy and container.record.status != lifecycle.RESTARTING:
                return  # stopped, started or removed meanwhile
            container.check("start")
            if container.removals:
                raise Conflict("container is marked for removal and cannot be started")
            self.cancel_restart(container)
            if by_policy:
                container.record.restart_count += 1
            else:
                container.record.restart_count, container.backoff = 0, 0.0
            container.record.stopped_by_user = False
            await self._start(container)

    async def _start(self, container: Container) -> None:
        record = container.record
        record.error, record.killed_by, record.oom_killed = "", "", False
        try:
            connection = await networking.connect(self._ctx, container)
            try:
                record.endpoint, record.ports, record.starting = connection.endpoint, connection.ports, True
                shim = await self._launch(container, connection)
            finally:
                connection.close()
        except BaseException as error:
            await self._not_started(container, error)
            if isinstance(error, StartFailed):
                raise StartFailed(record.error, error.exit_code) from error
            raise
        self.began(container, shim)
        self._ctx.publish(container, "start")

    async def _launch(self, container: Container, connection: networking.Connection) -> ShimClient:
        ctx, record = self._ctx, container.record
        files.write(ctx.files_directory(container.id), record, ctx.network.gateway)
        with request.joined(ctx, record) as namespaces:
            asked, warnings = request.make(ctx, record, namespaces, container.lower)
            ctx.save(container)
            for warning in warnings:
                log.warning("container %s: %s", container.name, warning)
            return await ShimClient.launch(
                ctx.launcher, asked, connection.netns_fd, container.take_early(), self.listener(container)
            )

    def began(self, container: Container, shim: ShimClient) -> None:
        """Its program runs, since just now or since before this engine."""
        record = container.record
        container.shim = shim
        record.starting = False
        record.pid, record.started_at, record.cgroups = shim.pid, shim.started.started_at, shim.report.cgroups
        record.exit_code = 0
        if record.status not in lifecycle.ALIVE:
            container.move(lifecycle.RUNNING)
        container.has_died.clear()
        self._save(container)
        for warning in shim.report.warnings:
            log.warning("container %s: %s", container.name, warning)

    async def _not_started(self, container: Container, error: BaseException) -> None:
        """Undo; the container is as before, but its `State.Error` says why, with the words of dockerd around it."""
        record = container.record
        for client in container.take_early():
            client.sock.close()
        if record.starting and not isinstance(error, StartFailed):  # StartFailed: the shim has undone its part
            await asyncio.to_thread(remains.end_run, self._ctx, container.record)
        self._clear(container)
        networking.disconnect(self._ctx, record.endpoint, record.ports)
        record.endpoint, record.ports, record.starting = None, [], False
        record.error, record.exit_code = str(error) or "the start was given up", 128
        if isinstance(error, StartFailed):
            record.error = f"failed to create task for container: {error}: unknown"
            record.exit_code = error.exit_code if error.exit_code in (126, 127) else 128
        restarted = record.status == lifecycle.RESTARTING
        if restarted:
            container.move(lifecycle.EXITED)
        self._save(container)
        if restarted:  # else nobody hears of an exit: there was none, and the start's own answer says why
            container.tell("not-running", "next-exit", error=record.error)
        if record.auto_remove:
            self.discard(container, volumes=True)

    # -- ending

    def listener(self, container: Container) -> OnEvent:
        """What a shim's client tells of its container."""
        return lambda event: self._on_event(container, event)

    def _on_event(self, container: Container, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "exited":
            self.ended(container, msgspec.convert(event, Exit))
        elif kind == "exec_exited":
            self._execs.ended(event["id"], int(event["status"]))
        elif kind == "gone" and container.shim is not None and not self._closing:
            self.soon(self.lost(container))

    async def lost(self, container: Container) -> None:
        """The shim is gone. It may have left word of the end; else it was killed, and its children go too."""
        ctx = self._ctx
        container.shim = None
        end = remains.read_exit(ctx.run_directory(container.id))
        if end is None:
            log.warning("container %s: its shim was killed; ending what is left of it", container.name)
            await asyncio.to_thread(remains.end_run, ctx, container.record)
            end = remains.killed("the container's shim was killed, and the container with it")
            container.record.killed_by = SHIM_LOST
        if container.alive:
            self.ended(container, end)

    def ended(self, container: Container, end: Exit, again: bool = True) -> None:
        """Take in the end of a run: tell, clean up, and start again or remove if that is wanted."""
        ctx, record = self._ctx, container.record
        if container.shim is not None:
            container.shim.close()
            container.shim = None
        ran = _seconds_between(record.started_at, end.finished_at)
        _note(record, end)
        networking.disconnect(ctx, record.endpoint, record.ports)
        record.endpoint, record.ports, record.cgroups = None, [], {}
        self._execs.container_ended(container)
        if record.oom_killed:
            ctx.publish(container, "oom")
        restarts = again and not self._closing and restart.wanted(record)
        container.move(lifecycle.RESTARTING if restarts else lifecycle.EXITED)
        ctx.publish(container, "die", exitCode=str(record.exit_code), execDuration=str(int(ran)))
        if restarts:
            self._restart_later(container, ran)
        container.tell("not-running", "next-exit")
        if record.auto_remove and not container.keeps:
            self.discard(container, volumes=True)
        else:
            self._save(container)
        # Not before the record is right: until then exit.json is the only one who knows.
        self._clear(container)

    def restart_soon(self, container: Container) -> None:
        """Start a container that an earlier engine knew, by its policy."""
        if container.record.status != lifecycle.RESTARTING:
            container.move(lifecycle.RESTARTING)
        self._restart_later(container, 0.0)

    def _clear(self, container: Container) -> None:
        remains.remove_directory(self._ctx.run_directory(container.id))
        remains.remove_directory(self._ctx.files_directory(container.id))

    def _restart_later(self, container: Container, ran: float) -> None:
        container.backoff = restart.delay(container.backoff, ran)
        loop = asyncio.get_running_loop()
        container.restart = loop.call_later(container.backoff, lambda: self.soon(self._restart(container)))

    async def _restart(self, container: Container) -> None:
        try:
            await self.start(container, by_policy=True)
        except (SampanError, OSError) as error:
            log.warning("container %s could not be started again: %s", container.name, error)

    def cancel_restart(self, container: Container) -> None:
        if container.restart is not None:
            container.restart.cancel()
            container.restart = None

    def give_up_restart(self, container: Container) -> None:
        """A user stops a container that waits for its next start."""
        self.cancel_restart(container)
        container.record.stopped_by_user = True
        container.move(lifecycle.EXITED)
        self._save(container)
        container.tell("not-running", "next-exit")

    # -- going

    def discard(self, container: Container, volumes: bool) -> None:
        """Remove a container that is not alive: rename, delete the row, tell. Its files are deleted later."""
        ctx, record = self._ctx, container.record
        self.cancel_restart(container)
        ctx.index.remove(container)
        container.move(lifecycle.REMOVING)
        try:
            ctx.state.delete(KIND, container.id)
        except SampanError as error:  # a full disk: a row without a directory is swept by the next engine
            log.error("container %s: %s", container.name, error)
        ctx.trash.take(Path(ctx.directory(container.id)))
        for client in container.take_early():
            client.sock.close()
        self._execs.forget(container)
        if volumes:
            for mount in record.mounts:
                if mount.anonymous:
                    self._remove_volume(mount.name)
        ctx.publish(container, "destroy")
        container.tell("removed", "next-exit", "not-running")

    def _remove_volume(self, name: str) -> None:
        try:
            self._ctx.volumes.remove(name, force=True)
        except SampanError as error:  # somebody else uses it by its name, as they may
            log.info("%s", error)

    # -- inside

    def soon(self, work: Coroutine[Any, Any, None], leavable: bool = False) -> None:
        """Do something in the background; a failure is logged. `leavable`: the engine's end cancels it."""
        task = asyncio.get_running_loop().create_task(work)
        (self._leavable if leavable else self._tasks).add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._leavable.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("in the background: %s", error, exc_info=error)

    def _save(self, container: Container) -> None:
        """What has happened has happened, whether it can be written down or not: the next engine finds out."""
        try:
            self._ctx.save(container)
        except SampanError as error:
            log.error("container %s: %s", container.name, error)

    async def close(self) -> None:
        """Let go: no restarts, no shims; containers run on."""
        self._closing = True
        for container in self._ctx.index:
            self.cancel_restart(container)
            if container.shim is not None:
                container.shim.close()
            for client in container.take_early():
                client.sock.close()
        for task in self._leavable:
            task.cancel()
        while self._tasks or self._leavable:
            await asyncio.wait(self._tasks | self._leavable)


def _note(record: Any, end: Exit) -> None:
    record.pid = 0
    record.exit_code, record.finished_at, record.oom_killed = end.status, end.finished_at, end.oom_killed
    record.error = end.error
    if end.oom_killed:
        record.killed_by = MEMORY_LIMIT if end.memory_limit_hit else HOST_MEMORY
    if end.oom_killed and end.signal == 9 and not record.error:
        record.error = _KILLED[record.killed_by]


def _seconds_between(started: str, finished: str) -> float:
    return max(0, timestamps.parse(finished) - timestamps.parse(started)) / timestamps.SECOND
