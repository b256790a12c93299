"""`docker logs`: the engine only says which log and to whom; a forked reader (log_reader.py) does the rest."""

from __future__ import annotations

import logging
import os
import socket

import msgspec

from sampan.engine import inspection
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import InvalidArgument, SampanError
from sampan.jobs.client import Job

log = logging.getLogger(__name__)


class LogOptions(msgspec.Struct):
    """`tail`: so many last lines, None for all. `since`, `until`: nanoseconds since the epoch, None for no bound.

    `details` puts the log's labels in front of each line, of which there are none.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    tail: int | None = None
    since: int | None = None
    until: int | None = None


def check(container: Container) -> bool:
    """Is it a terminal's log (raw, without frames)? Raises InvalidArgument for a container without a log."""
    if container.record.host_config["LogConfig"]["Type"] == "none":
        raise InvalidArgument("configured logging driver does not support reading")
    return container.record.tty


def read(ctx: Context, container: Container, options: LogOptions, sock: socket.socket, framed: bool) -> Job:
    """Have the log written to a client's socket, which is taken: closed here, and by the reader at the end.

    Returns at once; the job's end is to be awaited by `finish`. A followed log ends with the container's run, whichever
    engine is there by then.
    """
    fds: list[int] = []
    try:
        fds.append(os.open(ctx.directory(container.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if options.follow and container.alive:
            fds.append(os.open(ctx.run_directory(container.id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        name = os.path.basename(inspection.log_path(ctx, container.record))
        args = {"name": name, "options": msgspec.to_builtins(options), "framed": framed}
        return ctx.worker.spawn("engine.read_log", args, [sock.fileno(), *fds])
    finally:
        sock.close()
        for fd in fds:
            os.close(fd)


async def finish(job: Job) -> None:
    """Wait for the reader's end. A cancelled caller leaves it alone: it goes on without us."""
    try:
        await job.result(await job.receive())
    except SampanError as error:
        log.warning("a log could not be read to its end: %s", error)
    finally:
        job.close()
