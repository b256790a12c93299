"""A shim's word in the engine's log, which is its stderr. It outlives the engine, and whoever reads that log."""

from __future__ import annotations

import os
import select

_STDERR = 2


def complain(text: str) -> None:
    """Say it if it can be said at once: a full disk, a full pipe or one that nobody reads must not end a container."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    if not poll.poll(0):
        return
    try:
        os.write(_STDERR, f"sampan-shim: {text}\n".encode()[: select.PIPE_BUF])
    except OSError:
        return
