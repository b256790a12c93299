"""A container on its way to its shim, told by the process that becomes it (start.py, newborn.become).

    container                        shim                       engine
      ├── {"start", "pid", "begin"} ──▶│  the shim's descriptors
      ├── {"ready": Report} [pty] ────▶│
      ├── end of file: it runs ───────▶├── {"started"} [pidfd] ──▶│
      │ or {"error": …} ──────────────▶│ undone: process, cgroup, run directory
      │                                ├── {"error": …} ─────────▶│

The engine hears of a failure when nothing is left of it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgspec

from sampan.errors import NotFound, SampanError, to_message
from sampan.jobs import channel as wire
from sampan.linux.cgroup import Group
from sampan.runtime import container, offspring
from sampan.shim.complaint import complain
from sampan.shim.log import now
from sampan.shim.messages import EXIT_FILE, SOCKET, Setup

_CONSOLE = 4
"""Where a console stands among a shim's descriptors."""


def follow(sync: socket.socket, message: dict[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]] | None:
    """From the first message to the user's program: what a Shim is made of, or None when there is no container.

    `fds` are a Shim's without the console.
    """
    engine = socket.socket(fileno=fds[0])
    try:
        report, warnings, console = container.await_exec(sync)
        micros = (time.monotonic_ns() - message["begin"]) // 1000
        started = {  # of a messages.Started; making one and taking it apart would be 40 KiB of each shim's own memory
            "pid": message["pid"], "started_at": now(), "micros": micros, "report": report, "warnings": warnings,
        }
        wire.send(engine, {"started": started}, [fds[2]])
    except (SampanError, OSError) as error:
        _undo(msgspec.convert(message["start"], Setup), message["pid"], fds[1], fds[2])
        _tell(engine, error)
        return None
    engine.detach()
    if console >= 0:
        fds.insert(_CONSOLE, console)
    return {"setup": message["start"], "started": started}, fds


def _undo(setup: Setup, pid: int, directory: int, pidfd: int) -> None:
    offspring.kill(pidfd)
    os.waitpid(pid, 0)
    try:
        Group.open(setup.cgroup_host, setup.cgroup_path).remove()
    except NotFound:
        pass  # it came not so far
    except (OSError, SampanError) as error:
        complain(f"{setup.id}: its cgroup could not be removed: {error}")
    for name in (SOCKET, EXIT_FILE):
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
    os.rmdir(setup.directory)


def _tell(engine: socket.socket, error: SampanError | OSError) -> None:
    try:
        wire.send(engine, {"error": to_message(error)})
    except OSError:
        pass  # it is gone: that may be why there is no container
