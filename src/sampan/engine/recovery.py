"""A new engine takes in what it finds: containers that run, that ended, and what a killed engine left half-done.

The truth is in the state (SQLite), in EXEC_ROOT/containers/ID (the shim's socket, exit.json) and in the cgroups. What
belongs to no record is swept; what a record needs and is not there, ends the container with words that say so.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sampan.engine import cgroup_parent, lifecycle, networking, record, remains, restart, stop
from sampan.engine.container import Container
from sampan.engine.context import KIND, Context
from sampan.engine.execs import EXITED, RUNNING, ExecTable
from sampan.engine.lifetime import SHIM_LOST, Lifetime
from sampan.errors import Conflict, NotFound, SampanError
from sampan.linux.cgroup import Group
from sampan.network.endpoint import Endpoint, PortMapping
from sampan.shim.client import ShimClient

log = logging.getLogger(__name__)

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_HOST_RESTARTED = 255  # as Docker


class Recovery:
    def __init__(self, ctx: Context, life: Lifetime, execs: ExecTable) -> None:
        self._ctx = ctx
        self._life = life
        self._execs = execs
        self._unreadable: set[str] = set()
        self._rebooted = False

    async def run(self) -> None:
        """Afterwards every record is true, the network is up, and restart policies have been looked at."""
        self._rebooted = self._note_boot()
        self._load()
        lost = [it for it in self._ctx.index if it.alive or it.record.starting]
        await asyncio.gather(*(self._find(container) for container in lost))
        await self._ctx.network.start(list(self._in_use()))
        for container in lost:
            if container.shim is None:
                await self._end(container)
        self._settle_execs()
        for container in self._ctx.index:
            if container.record.internal:
                await self._drop(container)
        await asyncio.to_thread(self._sweep_cgroups, {it.id for it in self._ctx.index} | self._unreadable)
        self._sweep()
        self._apply_policies()

    def _note_boot(self) -> bool:
        boot = Path(_BOOT_ID).read_bytes().strip()
        known = dict(self._ctx.state.load("boot")).get("id")
        if known != boot:
            self._ctx.state.save("boot", "id", boot)
        return known is not None and known != boot

    # -- records

    def _load(self) -> None:
        for id, body in self._ctx.state.load(KIND):
            try:
                container = Container(record.decode(body))
                self._ctx.index.reserve(container.name, id)
            except (msgspec.DecodeError, Conflict) as error:
                log.error("container %s cannot be read and is left alone: %s", id, error)
                self._unreadable.add(id)
                continue
            if not os.path.isdir(self._ctx.directory(id)):
                log.warning("container %s has lost its directory: removed", container.name)
                self._ctx.index.release(container.name, id)
                self._ctx.state.delete(KIND, id)
                continue
            self._ctx.index.add(container)
        self._execs.load()

    async def _find(self, container: Container) -> None:
        """Its shim, if one answers: it runs."""
        directory = self._ctx.run_directory(container.id)
        try:
            shim = await ShimClient.connect(directory, self._life.listener(container))
        except (NotFound, OSError):
            return
        self._life.began(container, shim)

    def _in_use(self) -> Iterator[tuple[Endpoint, list[PortMapping]]]:
        for container in self._ctx.index:
            place = container.record.endpoint
            if container.shim is not None and place is not None:
                ports = [
                    PortMapping(port.proto, port.host_ip, port.host_port, port.container_port)
                    for port in container.record.ports
                ]
                yield networking.given(place), ports

    async def _end(self, container: Container) -> None:
        """No shim answers: it ended and left word, was never started, or its shim was killed."""
        ctx, known = self._ctx, container.record
        end = remains.read_exit(ctx.run_directory(container.id))
        if end is None:
            try:
                await asyncio.to_thread(remains.end_run, ctx, container.record)
            except SampanError as error:
                log.error("container %s: %s", container.name, error)
        if not container.alive:
            self._never_began(container)
        elif end is not None:
            self._life.ended(container, end)
        elif self._rebooted:
            end = remains.killed("the host was restarted while the container ran")
            end.status = _HOST_RESTARTED
            self._life.ended(container, end)
        else:
            known.killed_by = SHIM_LOST
            self._life.ended(container, remains.killed(
                "the container's shim was killed while no engine was there, and the container with it"
            ))

    def _never_began(self, container: Container) -> None:
        """The last engine died in the middle of its start."""
        ctx, known = self._ctx, container.record
        remains.remove_directory(ctx.run_directory(container.id))
        known.starting, known.endpoint, known.ports = False, None, []
        known.error, known.exit_code = "the engine was killed while it started the container", 128
        if known.status == lifecycle.RESTARTING:
            container.move(lifecycle.EXITED)
        if known.auto_remove:
            self._life.discard(container, volumes=True)
        else:
            ctx.save(container)

    def _settle_execs(self) -> None:
        """Those that ended while no engine was there: nobody can say how."""
        for known in self._execs:
            container = self._ctx.index.find(known.container)
            if known.status == RUNNING and container.shim is None:
                self._execs.ended(known.id, 137)
            elif known.status == RUNNING and known.pid not in self._processes(container):
                self._execs.ended(known.id, 255)
            elif known.status not in (RUNNING, EXITED):
                continue

    def _processes(self, container: Container) -> set[int]:
        try:
            return set(Group.open(self._ctx.cgroups, self._ctx.cgroup_path(container.record)).procs())
        except NotFound:
            return set()

    async def _drop(self, container: Container) -> None:
        """A build step whose builder is gone."""
        container.record.stopped_by_user = True
        await stop.end(self._ctx, container)
        self._life.discard(container, volumes=False)

    # -- things without a record

    def _sweep(self) -> None:
        ctx = self._ctx
        known = {it.id for it in ctx.index} | self._unreadable
        for entry in os.scandir(ctx.options.containers):
            if entry.name not in known:
                log.warning("%s belongs to no container: removed", entry.path)
                ctx.trash.take(Path(entry.path))
        for entry in [*os.scandir(ctx.options.runs), *os.scandir(ctx.options.files)]:
            container = ctx.index.find(entry.name) if entry.name in ctx.index else None
            if entry.name not in self._unreadable and (container is None or container.shim is None):
                remains.remove_directory(entry.path)
        for entry in os.scandir(ctx.options.berths):
            if entry.name.startswith("."):  # half-made
                ctx.trash.take(Path(entry.path))
        ctx.trash.empty_soon()

    def _sweep_cgroups(self, known: set[str]) -> None:
        """Groups below our parent that no container of ours has: their processes are ended. In a thread."""
        parent = self._ctx.options.cgroup_parent.strip("/")
        for name in cgroup_parent.groups(self._ctx.cgroups, parent) - known:
            log.warning("cgroup %s/%s belongs to no container: removed", parent, name)
            try:
                remains.end(self._ctx.cgroups, f"{parent}/{name}")
            except (SampanError, OSError) as error:
                log.error("%s", error)

    def _apply_policies(self) -> None:
        for container in self._ctx.index:
            known = container.record
            waits = known.status == lifecycle.RESTARTING and container.restart is None
            ended = known.status == lifecycle.EXITED and not container.alive
            if waits or (ended and restart.wanted_by_new_engine(known)):
                self._life.restart_soon(container)
