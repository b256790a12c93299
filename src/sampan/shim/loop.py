"""A small epoll loop: descriptor → callback. One thread, no timers but one deadline."""

from __future__ import annotations

import select
from collections.abc import Callable

READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLOUT
BROKEN = select.EPOLLHUP | select.EPOLLERR
Callback = Callable[[int], None]


class Loop:
    """Watches descriptors until `stop`. A callback gets the epoll events (READ, WRITE, BROKEN bits)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._running = True

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Watch `fd`, or change what is watched for. `events` 0 still tells BROKEN; use `forget` for nothing at all."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching; before the descriptor is closed. Fine if it was not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run(self, patience: Callable[[], float] | None = None) -> None:
        """Serve events until `stop`. `patience()`: seconds until it wants to be called again, -1 for no matter."""
        while self._running:
            self.run_once(-1 if patience is None else patience())

    def run_once(self, seconds: float) -> bool:
        """Serve what is ready, waiting up to `seconds` (-1: for ever). False when nothing was."""
        ready = self._epoll.poll(seconds)
        for fd, events in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
        return bool(ready)

    def stop(self) -> None:
        self._running = False
