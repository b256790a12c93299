"""Hashing and compressing beside the unpacking, in a second thread: it is C code that lets go of the GIL.

On two cores an import takes little more than half the time. Only in a process of its own: never before a fork.
"""

from __future__ import annotations

import queue
import threading  # allowed: started in a forked job, and ended there before the block is left
from collections.abc import Callable
from typing import Self

Work = Callable[[bytes], object]

_WAITING = 16  # pieces; what is in memory at most


class Beside:
    """A context manager. What is `put` is done in order; `finish` waits for all of it.

    An error of the work is raised by the next `put` or by `finish`; what was put after it is dropped.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Work, bytes] | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def put(self, work: Work, data: bytes) -> None:
        """Have `work(data)` done."""
        if self._error is not None:
            raise self._error
        self._queue.put((work, data))

    def finish(self) -> None:
        self._end()
        if self._error is not None:
            raise self._error

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    item[0](item[1])
                except BaseException as error:
                    self._error = error
