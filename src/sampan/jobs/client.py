"""The asker's side of a fork server, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sampan.errors import Internal, InvalidArgument, Unavailable, from_message
from sampan.jobs import channel as wire
from sampan.linux import interpreter

_TRIES = 3
Message = tuple[dict[str, Any], list[int]]


async def receive(sock: socket.socket) -> Message | None:
    """Next message from a non-blocking channel socket, None at the end. One reader at a time."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return wire.receive(sock)
        except BlockingIOError:
            await _ready(loop, sock)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


async def _ready(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Job:
    """A running job: its messages, and a pidfd once it has said its first word."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.pid = 0
        self._pidfd = -1

    async def receive(self) -> Message | None:
        """Next message (`progress`, `result`, `error` or the job's own words), None when the job has ended."""
        received = await receive(self.sock)
        if received is not None and "pid" in received[0]:
            self._meet(received)
            return await self.receive()
        return received

    def _meet(self, first: Message) -> None:
        """A job that is passed on to another process says its first word again."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self.pid = int(first[0]["pid"])
        self._pidfd = first[1][0]

    async def result(
        self, received: Message | None, on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """The job's result, from its first message on. Raises the error it ended with; Internal if it said nothing."""
        while received is not None:
            message, fds = received
            _close(fds)
            if "result" in message:
                return dict(message["result"])
            if "error" in message:
                raise from_message(message["error"])
            if on_progress is not None and "progress" in message:
                on_progress(message["progress"])
            received = await self.receive()
        raise Internal("a worker process ended without an answer; its output is in the engine's log")

    def close(self) -> None:
        """Forget the job; it runs on unless it was killed."""
        self.sock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def kill(self) -> None:
        """End the job now. One that has not said its first word ends when it does: nobody listens any more."""
        with contextlib.suppress(BlockingIOError, InvalidArgument):  # it has not, or is none of ours
            while self.sock.fileno() >= 0 and (received := wire.receive(self.sock)) is not None:
                if "pid" in received[0]:
                    self._meet(received)
                else:
                    _close(received[1])
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


class ForkServer:
    """Starts `python -m module FD` on first use, and again when it has died."""

    def __init__(self, module: str, env: Mapping[str, str] | None = None) -> None:
        self._module = module
        self._env = env
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server process; it warms up while the caller goes on."""
        self._forget()
        ours, theirs = wire.pair()
        program = interpreter.readonly()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", self._module, str(theirs.fileno())],
                executable=f"/proc/self/fd/{program}" if program >= 0 else sys.executable,
                pass_fds=[theirs.fileno(), *([program] if program >= 0 else [])],
                stdin=subprocess.DEVNULL, start_new_session=True,
                env=None if self._env is None else dict(self._env), cwd="/",
            )
        finally:
            theirs.close()
            if program >= 0:
                os.close(program)
        self._sock = ours

    def spawn(self, job: str, args: dict[str, Any], fds: Sequence[int] = ()) -> Job:
        """Ask for a job. The descriptors are duplicated by the kernel; the caller still owns its own."""
        if self._sock is None:
            self.start()
        ours, theirs = wire.pair()
        with theirs:
            request = {"job": job, "args": args}
            try:
                self._send(request, [theirs.fileno(), *fds])
            except (BrokenPipeError, ConnectionResetError):
                self.start()  # it was killed: a new one serves this request
                self._send(request, [theirs.fileno(), *fds])
        return Job(ours)

    def _send(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        assert self._sock is not None
        wire.send(self._sock, request, fds)

    async def begin(self, job: str, args: dict[str, Any], fds: Sequence[int] = ()) -> tuple[Job, Message | None]:
        """Spawn, and wait for the job's first message of its own; a cancelled caller kills it.

        A server that is killed takes the requests it has not begun with it: those are asked again.
        """
        for _ in range(_TRIES):
            running = self.spawn(job, args, fds)
            asked = self._sock
            try:
                received = await running.receive()
            except BaseException:
                running.kill()
                running.close()
                raise
            if received is not None or running.pid:
                return running, received
            running.close()
            if self._sock is asked:  # else another caller was faster: the new server has his request
                self._forget()
        raise Unavailable(f"{self._module} does not stay alive; its output is in the engine's log")

    async def run(
        self, job: str, args: dict[str, Any], fds: Sequence[int] = (),
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Run a job to its end; a cancelled caller kills it."""
        running, received = await self.begin(job, args, fds)
        try:
            return await running.result(received, on_progress)
        except BaseException:
            running.kill()
            raise
        finally:
            running.close()

    def close(self) -> None:
        """End the server (not what it forked)."""
        self._forget()

    def _forget(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._process is not None:
            self._process.wait()
            self._process = None
