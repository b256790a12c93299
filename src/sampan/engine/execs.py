"""Processes that users run in a running container: `docker exec`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec

from sampan.engine import request
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError, StartFailed
from sampan.shim.messages import AttachedClient, ExecRequest

log = logging.getLogger(__name__)

KIND = "exec"
_KEPT = 512  # ended ones that a container's clients may still ask about: those that ended last

CREATED, RUNNING, EXITED = "created", "running", "exited"


class Exec(msgspec.Struct):
    """`config` is Docker's ExecConfig. Kept in the state too: a client outlives an engine and asks the next one."""

    id: str
    container: str
    config: dict[str, Any]
    status: str = CREATED
    exit_code: int | None = None
    pid: int = 0


class ExecTable:
    """All execs that can be asked about, by id. A container's are dropped with it."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._all: dict[str, Exec] = {}

    def __iter__(self) -> Iterator[Exec]:
        return iter(list(self._all.values()))

    def get(self, id: str) -> Exec:
        """Raises NotFound."""
        found = self._all.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found

    def load(self) -> None:
        """What the last engine knew. Those that ran are `ended` or found running by recovery."""
        for id, body in self._ctx.state.load(KIND):
            known = msgspec.json.decode(body, type=Exec)
            if known.container in self._ctx.index:
                self._all[id] = known
                self._ctx.index.find(known.container).execs[id] = None
            else:
                self._ctx.state.delete(KIND, id)

    def running(self, container: Container) -> list[str]:
        """The ids of a container's execs that run."""
        return [id for id in container.execs if self._all[id].status == RUNNING]

    def add(self, container: Container, new: Exec) -> None:
        self._all[new.id] = new
        container.execs[new.id] = None
        ended = [id for id in container.execs if self._all[id].status == EXITED]
        for id in ended[: max(0, len(ended) - _KEPT)]:
            self._drop(container, id)

    def save(self, changed: Exec) -> None:
        """For the next engine. A full disk must not keep anybody from looking into a container."""
        try:
            self._ctx.state.save(KIND, changed.id, msgspec.json.encode(changed))
        except SampanError as error:
            log.error("exec %s: %s", changed.id, error)

    def ended(self, id: str, status: int) -> None:
        """The shim's news."""
        found = self._all.get(id)
        if found is None or found.status == EXITED:
            return
        found.status, found.exit_code, found.pid = EXITED, status, 0
        self.save(found)
        container = self._ctx.index.find(found.container)
        container.execs[id] = container.execs.pop(id, None)
        self._ctx.publish(container, "exec_die", execID=id, exitCode=str(status))

    def container_ended(self, container: Container) -> None:
        """What still ran in it was killed with it; what was not started never will be."""
        for id in list(container.execs):
            found = self._all[id]
            if found.status == RUNNING:
                found.status, found.exit_code, found.pid = EXITED, 137, 0
                self.save(found)

    def forget(self, container: Container) -> None:
        for id in list(container.execs):
            self._drop(container, id)

    def _drop(self, container: Container, id: str) -> None:
        container.execs.pop(id, None)
        if self._all.pop(id).status == CREATED:
            return
        try:
            self._ctx.state.delete(KIND, id)
        except SampanError as error:  # the next engine drops it: its container is not there
            log.error("exec %s: %s", id, error)


class Execs:
    """The API's operations."""

    def __init__(self, ctx: Context, table: ExecTable) -> None:
        self._ctx = ctx
        self._table = table

    def create(self, ref: str, body: dict[str, Any]) -> dict[str, str]:
        """`{"Id"}`. Raises NotFound, Conflict for a container that is not running, InvalidArgument."""
        container = self._ctx.index.find(ref)
        container.check("exec")
        command = body.get("Cmd") or []
        if not command:
            raise InvalidArgument("No exec command specified")
        if not all(isinstance(word, str) for word in [*command, *(body.get("Env") or [])]):
            raise InvalidArgument("Cmd and Env are lists of texts")
        new = Exec(secrets.token_hex(32), container.id, body)
        self._table.add(container, new)
        self._ctx.publish(container, f"exec_create: {' '.join(command)}", execID=new.id)
        return {"Id": new.id}

    async def start(
        self, id: str, client: AttachedClient | None, tty: bool, size: tuple[int, int] | None = None
    ) -> None:
        """Run it, its stdio on the client's connection (which is taken) or nowhere. Returns once the program runs.

        `size`: rows and columns of its terminal. Raises NotFound, Conflict, StartFailed (126, 127).
        """
        try:
            wanted = self._table.get(id)
            if wanted.status != CREATED:
                raise Conflict(f"exec {id} has already been started" if wanted.status == RUNNING
                               else f"exec {id} has already run")
            container = self._ctx.index.find(wanted.container)
            container.check("exec")
            if container.shim is None:
                raise Conflict(f"container {container.id} is not running")
            asked = self._asked(container, wanted, tty, size)
            asked.open_stdin = client is not None and client.options.stdin
            wanted.status = RUNNING
        except SampanError:
            if client is not None:
                client.sock.close()
            raise
        await self._run(container, wanted, asked, client)

    def _asked(
        self, container: Container, wanted: Exec, tty: bool, size: tuple[int, int] | None
    ) -> ExecRequest:
        try:
            return request.make_exec(self._ctx, container.record, wanted.id, wanted.config, tty, size)
        except SampanError:
            self._table.ended(wanted.id, 126)  # the client has its stream already: it asks for the exit code
            raise

    async def _run(
        self, container: Container, wanted: Exec, asked: ExecRequest, client: AttachedClient | None
    ) -> None:
        shim = container.shim
        assert shim is not None
        self._table.save(wanted)  # before it runs: a new engine must know whose it is
        self._ctx.publish(container, f"exec_start: {' '.join(wanted.config['Cmd'])}", execID=wanted.id)
        try:
            pid = await shim.exec(asked, client)
        except SampanError as error:
            code = error.exit_code if isinstance(error, StartFailed) else 126
            self._table.ended(wanted.id, code)
            if shim.ended or isinstance(error, Conflict):
                raise Conflict(f"container {container.id} is not running") from error
            if isinstance(error, StartFailed):
                raise StartFailed(f"OCI runtime exec failed: {error}: unknown", error.exit_code) from error
            raise
        if wanted.status == RUNNING:
            wanted.pid = pid
            self._table.save(wanted)

    def inspect(self, id: str) -> dict[str, Any]:
        """`GET /exec/ID/json`."""
        found = self._table.get(id)
        config = found.config
        command = config["Cmd"]
        return {
            "ID": found.id, "Running": found.status == RUNNING, "ExitCode": found.exit_code,
            "ProcessConfig": {
                "tty": bool(config.get("Tty")), "entrypoint": command[0], "arguments": command[1:],
                "privileged": bool(config.get("Privileged")), "user": config.get("User") or "",
            },
            "OpenStdin": bool(config.get("AttachStdin")), "OpenStderr": bool(config.get("AttachStderr")),
            "OpenStdout": bool(config.get("AttachStdout")), "CanRemove": found.status == EXITED,
            "ContainerID": found.container, "DetachKeys": config.get("DetachKeys") or "", "Pid": found.pid,
        }

    async def resize(self, id: str, height: int, width: int) -> None:
        """Raises NotFound, Conflict for one that does not run, InvalidArgument without a terminal."""
        found = self._table.get(id)
        container = self._ctx.index.find(found.container)
        if found.status != RUNNING or container.shim is None:
            raise Conflict(f"exec {id} is not running")
        await container.shim.resize(height, width, id)
