"""A container in the engine's memory: its record, its shim, and everybody who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from sampan.engine import lifecycle
from sampan.engine.record import Record
from sampan.errors import InvalidArgument
from sampan.shim.client import ShimClient
from sampan.shim.messages import AttachedClient

CONDITIONS = ("not-running", "next-exit", "removed")


class Container:
    """`lock` orders what takes several turns of the loop (start, removal, update); looking never takes it.

    An end of the container, expected or not, is handled in one turn and needs no lock.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.shim: ShimClient | None = None
        self.keeps = 0
        self.removals = 0  # that are under way: nothing starts any more
        self.kills = 0  # that wait for the end: what is frozen now would not come to it
        self.lower: list[str] = []  # a build step's layers, topmost first; others have theirs in the record
        self.restart: asyncio.TimerHandle | None = None
        self.backoff = 0.0  # seconds before the last automatic restart
        self.early: list[AttachedClient] = []  # attached before the start
        self.execs: dict[str, None] = {}  # ids; the ended ones as they ended
        self.has_died = asyncio.Event()
        self._waiters: list[tuple[str, asyncio.Future[dict[str, Any]]]] = []
        if record.status not in lifecycle.ALIVE:
            self.has_died.set()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def alive(self) -> bool:
        return self.record.status in lifecycle.ALIVE

    def check(self, action: str) -> None:
        """Raises Docker's error when the state does not allow `action` (lifecycle.py)."""
        lifecycle.check(action, self.record.status, self.record.name, self.record.id)

    def move(self, status: str) -> None:
        """The only way a status changes."""
        assert lifecycle.follows(self.record.status, status), f"{self.record.status} → {status}"
        self.record.status = status
        if status in lifecycle.ALIVE:
            self.has_died.clear()
        else:
            self.has_died.set()

    def wait(self, condition: str) -> asyncio.Future[dict[str, Any]]:
        """Docker's wait, registered with this call: `{"StatusCode", "Error"?}`. Raises InvalidArgument."""
        if condition not in CONDITIONS:
            raise InvalidArgument(f"invalid condition: {condition!r}")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if condition == "not-running" and not self.alive and self.record.status != lifecycle.RESTARTING:
            answer.set_result(self._status())
            return answer
        waiter = (condition, answer)
        self._waiters.append(waiter)
        answer.add_done_callback(lambda _: self._waiters.remove(waiter))
        return answer

    def tell(self, *conditions: str, error: str = "") -> None:
        """Answer those who wait for one of the conditions. A container that restarts by itself is not "not-running"."""
        answer = self._status()
        if error:
            answer["Error"] = {"Message": error}
        for condition, waiting in list(self._waiters):
            if condition in conditions and not waiting.done():
                waiting.set_result(answer)

    def _status(self) -> dict[str, Any]:
        return {"StatusCode": self.record.exit_code}

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """While a restart stops it, `--rm` does not remove it."""
        self.keeps += 1
        try:
            yield
        finally:
            self.keeps -= 1

    def take_early(self) -> list[AttachedClient]:
        """The clients that attached before the start; whoever takes them passes on or closes their sockets."""
        clients, self.early = self.early, []
        return clients

    def actor(self) -> dict[str, str]:
        """The attributes of this container's events."""
        labels = self.record.config.get("Labels") or {}
        return {**labels, "image": self.record.image_name, "name": self.record.name}
