"""Ending a container: stop (signal, grace time, SIGKILL), kill, restart. Waiting is for the exit's event."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from sampan.engine import lifecycle, pause
from sampan.engine.config import signal_name, signal_number
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.lifetime import Lifetime
from sampan.errors import Internal, SampanError

log = logging.getLogger(__name__)

GRACE = 10  # seconds, as Docker
_PATIENCE = 10.0  # seconds that the kernel gets to end what was killed


async def stop(
    ctx: Context, life: Lifetime, container: Container, timeout: int | None, asked: str | None
) -> list[str]:
    """Returns warnings: why the signal could not have ended it. `timeout` in seconds, negative for ever.

    Raises NotModified for a container that has ended, InvalidArgument for an unknown signal.
    """
    record = container.record
    number = signal_number(asked or record.config.get("StopSignal") or "SIGTERM")
    if record.starting:
        async with container.lock:  # it is about to run: what follows must see it
            pass
    container.check("stop")
    if record.status == lifecycle.RESTARTING:
        life.give_up_restart(container)
        ctx.publish(container, "stop")
        return []
    grace = timeout if timeout is not None else record.config.get("StopTimeout")
    grace = GRACE if grace is None else grace
    warnings = _deafness(container, number, grace)
    for warning in warnings:
        log.warning("container %s: %s", record.name, warning)
    record.stopped_by_user = True
    _save(ctx, container)
    _send(ctx, container, number, warnings)
    await pause.thaw_for_signal(ctx, container)
    try:
        async with asyncio.timeout(None if grace < 0 else grace):
            await container.has_died.wait()
    except TimeoutError:
        await end(ctx, container)
    else:
        warnings = []
    ctx.publish(container, "stop")
    return warnings


async def kill(ctx: Context, container: Container, asked: str) -> None:
    """Send a signal; SIGKILL is waited for. Raises Conflict for a container that does not run."""
    number = signal_number(asked)
    container.check("kill")
    record = container.record
    wanted = record.config.get("StopSignal")
    if number == signal.SIGKILL or not wanted or signal_number(wanted) == number:
        record.stopped_by_user = True  # whoever ends it on purpose does not want it back
        _save(ctx, container)
    if number == signal.SIGKILL:
        await end(ctx, container)
        return
    _send(ctx, container, number)
    if record.stopped_by_user:
        await pause.thaw_for_signal(ctx, container)


async def restart(
    ctx: Context, life: Lifetime, container: Container, timeout: int | None, asked: str | None
) -> list[str]:
    """Stop it if it runs, start it. Returns the warnings of the stop."""
    warnings: list[str] = []
    if container.alive or container.record.status == lifecycle.RESTARTING:
        with container.keep():
            warnings = await stop(ctx, life, container, timeout, asked)
    await life.start(container)
    ctx.publish(container, "restart")
    return warnings


async def end(ctx: Context, container: Container) -> None:
    """SIGKILL, and wait until its end has been taken in. Raises Internal when the kernel does not end it."""
    if not container.alive:
        return
    container.kills += 1
    try:
        _send(ctx, container, signal.SIGKILL)
        await pause.thaw_for_signal(ctx, container)
        async with asyncio.timeout(_PATIENCE):
            await container.has_died.wait()
    except TimeoutError:
        raise Internal(
            f"tried to kill container {container.name}, but it has not ended within {_PATIENCE:.0f} s: "
            "a process of it is stuck in the kernel"
        ) from None
    finally:
        container.kills -= 1


def _send(ctx: Context, container: Container, number: int, warnings: list[str] | None = None) -> None:
    if container.shim is None:
        return
    with contextlib.suppress(ProcessLookupError):  # it has just ended: the news is on its way
        container.shim.signal(number)
    told = {"warning": warnings[0]} if warnings else {}
    ctx.publish(container, "kill", signal=str(number), **told)


def _save(ctx: Context, container: Container) -> None:
    try:
        ctx.save(container)
    except SampanError as error:  # a full disk must not keep anybody from stopping what fills it
        log.error("container %s: %s", container.name, error)


def _deafness(container: Container, number: int, grace: int) -> list[str]:
    """Why the signal cannot end the container's PID 1, if it cannot."""
    if container.shim is None or number in (signal.SIGKILL, signal.SIGSTOP):
        return []
    try:
        with open(f"/proc/{container.shim.pid}/status", encoding="utf-8", errors="replace") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return []
    if hears(status, number):
        return []
    after = f"killed after {grace} s" if grace >= 0 else "waiting for it for ever"
    return [
        f"PID 1 ({status['Name']}) has no handler for {signal_name(number)}, so it cannot end by it; {after}. "
        f"Use --init or a command that handles {signal_name(number)} (exec form)."
    ]


def hears(status: dict[str, str], number: int) -> bool:
    """Does a signal from outside do anything to the process of this /proc/PID/status?

    The first process of a pid namespace gets only signals it has a handler for (pid_namespaces(7)); blocked ones wait
    for its sigwait or signalfd (signal(7)): that is how --init listens. Others get all but those they ignore.
    """
    bit = 1 << (number - 1)
    if int(status["SigBlk"], 16) & bit or int(status["SigCgt"], 16) & bit:
        return True
    is_init = len(status.get("NSpid", "").split()) > 1 and status["NSpid"].split()[-1] == "1"
    return not is_init and not int(status["SigIgn"], 16) & bit
