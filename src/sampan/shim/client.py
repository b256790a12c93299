"""The engine's side of a shim, for asyncio."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sampan.errors import Internal, NotFound, Unavailable, from_message
from sampan.jobs import channel as wire
from sampan.jobs.client import ForkServer, Job, receive
from sampan.linux import unix_socket
from sampan.linux.cgroup import Host
from sampan.oci.runtime import Resources
from sampan.runtime.container import is_usual
from sampan.runtime.newborn import Work
from sampan.runtime.operation import Report
from sampan.shim.messages import SOCKET, AttachedClient, ExecRequest, Setup, Started, StartRequest

_PATIENCE = 5.0  # seconds for a shim to say that it is there

OnEvent = Callable[[dict[str, Any]], None]


class ShimClient:
    """A running container's shim. `on_event` gets {"event": "exec_exited"|"exited"|"gone", …}; "gone" comes last.

    `started` and `report` are what was said of the start; `pidfd` is the init process's, for signals that cannot hit
    another.
    """

    def __init__(self, sock: socket.socket, started: Started, pidfd: int, on_event: OnEvent, job: Job | None) -> None:
        self.started = started
        self.pidfd = pidfd
        self.report = msgspec.json.decode(started.report, type=Report)
        self.report.warnings += started.warnings
        self._sock = sock
        self._job = job
        self._on_event = on_event
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def pid(self) -> int:
        """The pid, on the host, of the container's init."""
        return self.started.pid

    @classmethod
    async def launch(
        cls, launcher: ForkServer, request: StartRequest, netns_fd: int | None,
        clients: Sequence[AttachedClient], on_event: OnEvent,
    ) -> ShimClient:
        """Start a container; returns when its program runs.

        Raises StartFailed (125, 126, 127) with nothing left behind. The clients' sockets are taken and closed here.
        """
        fds = [] if netns_fd is None else [netns_fd]
        fds += [client.sock.fileno() for client in clients]
        try:
            job, received = await launcher.begin(
                "external" if request.runtime else "shim", _split(request, netns_fd is not None, clients), fds
            )
        finally:
            for client in clients:
                client.sock.close()
        return cls._from_answer(received, job, on_event)

    @classmethod
    def _from_answer(
        cls, received: tuple[dict[str, Any], list[int]] | None, job: Job, on_event: OnEvent
    ) -> ShimClient:
        if received is None or "started" not in received[0]:
            job.close()
            if received is None:
                raise Internal("the shim ended before the container had started")
            raise from_message(received[0]["error"])
        message, fds = received
        return cls(job.sock, msgspec.convert(message["started"], Started), fds[0], on_event, job)

    @classmethod
    async def connect(cls, directory: str, on_event: OnEvent) -> ShimClient:
        """Find the shim of a container that another engine started. Raises NotFound when none answers."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            unix_socket.connect(sock, f"{directory}/{SOCKET}")
            wire.widen(sock)
            wire.send(sock, {"do": "status", "n": 0})
            sock.setblocking(False)
            async with asyncio.timeout(_PATIENCE):
                received = await receive(sock)
        except (OSError, TimeoutError) as error:
            sock.close()
            raise NotFound(f"no shim answers in {directory}: {error}") from error
        if received is None or not received[1]:
            sock.close()
            raise NotFound(f"no shim answers in {directory}")
        return cls(sock, msgspec.convert(received[0]["started"], Started), received[1][0], on_event, None)

    async def exec(self, request: ExecRequest, client: AttachedClient | None) -> int:
        """Run a process in the container; returns its pid on the host once its program runs.

        Raises StartFailed. The client's socket is taken and closed here; the shim talks to it. The end of the process
        comes as the event {"event": "exec_exited", "id", "status"}.
        """
        request.client = client.options if client else None
        fds = [client.sock.fileno()] if client else []
        try:
            answer = await self._ask({"do": "exec", "request": msgspec.to_builtins(request)}, fds)
        finally:
            if client:
                client.sock.close()
        return int(answer["pid"])

    async def attach(self, client: AttachedClient) -> None:
        """Give a client's connection to the container's stdio. Its socket is taken and closed here."""
        try:
            await self._ask({"do": "attach", "client": msgspec.to_builtins(client.options)}, [client.sock.fileno()])
        finally:
            client.sock.close()

    async def resize(self, height: int, width: int, exec_id: str = "") -> None:
        """Set the terminal's size. Raises NotFound for an exec that is over, InvalidArgument without a terminal."""
        await self._ask({"do": "resize", "height": height, "width": width, "exec": exec_id})

    async def command(self, name: str, resources: Resources | None = None) -> None:
        """Have the container's external runtime do "pause", "resume" or "update" (with `resources`). Raises Internal
        with the runtime's own words.
        """
        given = {} if resources is None else {"resources": msgspec.to_builtins(resources)}
        await self._ask({"do": name, **given})

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    @property
    def ended(self) -> bool:
        """Has the container's init ended, whether we were told of it or not yet?"""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def signal(self, number: int) -> None:
        """Send the container's init a signal. Raises ProcessLookupError once it has ended."""
        if self.closed:
            raise ProcessLookupError(3, "the container has ended")
        signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of the shim; the container runs on."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            os.close(self.pidfd)
        if self._job is not None:
            self._job.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("the container's shim is gone"))
        self._waiting.clear()

    async def _ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        if self._sock.fileno() < 0:
            raise Unavailable("the container's shim is gone")
        self._count += 1
        number = self._count
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            wire.send(self._sock, {**message, "n": number}, fds)
            return await answer
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Unavailable("the container's shim is gone") from error
        finally:
            self._waiting.pop(number, None)

    def _read(self) -> None:
        try:
            received = wire.receive(self._sock)
        except BlockingIOError:
            return
        if received is None:
            self.close()
            self._on_event({"event": "gone"})
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        waiting = self._waiting.get(message.get("re", -1))
        if waiting is not None:
            if not waiting.done():
                _settle(waiting, message)
        elif "event" in message:
            self._on_event(message)
            if message["event"] == "exec_exited":  # now whoever asks hears the exit code: the client may be let go
                self._acknowledge(message["id"])

    def _acknowledge(self, exec_id: str) -> None:
        try:
            wire.send(self._sock, {"do": "ack", "id": exec_id})
        except OSError:
            return  # the shim is ending: it lets its clients go by itself


def _split(request: StartRequest, network: bool, clients: Sequence[AttachedClient]) -> dict[str, Any]:
    """The two parts of a start: the shim's, and the container's first process's as text."""
    host = msgspec.convert(request.cgroup_host, Host)
    work = Work(request.spec, request.rootfs, request.directory, host, request.seccomp, request.init)
    tty = bool(request.spec.process and request.spec.process.terminal)
    path = request.spec.linux.cgroups_path if request.spec.linux else ""
    kinds = {it.type: it.path for it in request.spec.linux.namespaces} if request.spec.linux else {}
    setup = Setup(
        request.id, request.directory, host, path, is_usual(work, ["network"] if network else []), tty, request.log,
        request.open_stdin, request.stdin_once, network, not network and kinds.get("network") == "",
        [client.options for client in clients], request.runtime,
    )
    return {"setup": msgspec.to_builtins(setup), "work": msgspec.json.encode(work).decode()}


def _settle(waiting: asyncio.Future[dict[str, Any]], message: dict[str, Any]) -> None:
    if "error" in message:
        waiting.set_exception(from_message(message["error"]))
    else:
        waiting.set_result(message)
