"""The engine's side of the maker process, for asyncio."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sampan.errors import Internal, from_message
from sampan.jobs import channel as wire

_MODULE = "sampan.network.maker"
_TRIES = 2
_log = logging.getLogger("sampan.network")

Answer = asyncio.Future[list[int]]


@dataclass(slots=True)
class _Question:
    task: str
    args: dict[str, Any]
    answer: Answer
    tries: int = field(default=0)


class MakerClient:
    """Starts the maker, asks it, and starts it again when it has died: what it was asked is then asked once more."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._questions: dict[int, _Question] = {}
        self._unsent: deque[int] = deque()
        self._serial = 0

    @property
    def pid(self) -> int | None:
        """The maker's process id, None when it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; it warms up while the caller goes on. In the caller's network namespace. Idempotent."""
        if self._sock is not None:
            return
        ours, theirs = wire.pair()
        ours.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", _MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True, cwd="/",
            )
        self._sock = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)

    def ask(self, task: str, **args: Any) -> Answer:
        """Ask for a task; the answer is the list of descriptors it made, owned by whoever awaits it.

        A future that was cancelled meanwhile closes them itself. Fails with the error the task raised, or Internal.
        """
        self.start()
        answer: Answer = asyncio.get_running_loop().create_future()
        self._serial += 1
        self._questions[self._serial] = _Question(task, args, answer)
        self._unsent.append(self._serial)
        self._send()
        return answer

    def tell(self, task: str, **args: Any) -> None:
        """Ask for a task whose end nobody waits for; a failure is logged."""
        self.ask(task, **args).add_done_callback(_log_failure)

    async def close(self) -> None:
        """End the process. Open questions are cancelled. Idempotent."""
        process = self._process
        self._disconnect()
        for question in self._questions.values():
            question.answer.cancel()
        self._questions.clear()
        self._unsent.clear()
        if process is not None:
            await _ended(process)

    def _send(self) -> None:
        while self._unsent and self._sock is not None:
            serial = self._unsent[0]
            question = self._questions.get(serial)
            if question is None or question.answer.done():
                self._questions.pop(serial, None)
                self._unsent.popleft()
                continue
            try:
                wire.send(self._sock, {"serial": serial, "task": question.task, "args": question.args})
            except BlockingIOError:
                return  # full: there are answers to come, and each tries again
            except (BrokenPipeError, ConnectionResetError):
                return  # dead: the end of its socket is about to be read
            question.tries += 1
            self._unsent.popleft()

    def _on_readable(self) -> None:
        while self._sock is not None:
            try:
                received = wire.receive(self._sock)
            except BlockingIOError:
                break
            if received is None:
                self._restart()
                return
            self._settle(*received)
        self._send()

    def _settle(self, message: dict[str, Any], fds: list[int]) -> None:
        question = self._questions.pop(int(message["serial"]), None)
        if question is None or question.answer.done():
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            question.answer.set_exception(from_message(message["error"]))
        else:
            question.answer.set_result(fds)

    def _restart(self) -> None:
        """The maker died. It answered in order, so the first open question may be what killed it."""
        process = self._process
        self._disconnect()
        assert process is not None
        process.kill()  # its socket is closed, so it is as good as dead; kill makes the wait certain to be short
        status = process.wait()
        _log.warning("the process that makes network namespaces ended with status %d; starting it again", status)
        for serial, question in list(self._questions.items()):
            if question.tries >= _TRIES and not question.answer.done():
                del self._questions[serial]
                question.answer.set_exception(Internal("the process that makes network namespaces died over a request"))
        self._unsent = deque(self._questions)
        if self._unsent:
            self.start()
            self._send()

    def _disconnect(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
        self._sock = None
        self._process = None


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was told to end, without blocking the loop."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.kill()  # a caller that was cancelled does not leave it behind
        process.wait()


def _log_failure(answer: Answer) -> None:
    if not answer.cancelled() and (error := answer.exception()) is not None:
        _log.warning("network: %s", error)
