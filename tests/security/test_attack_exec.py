"""Attacks from inside a container on what joins it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.runtime_fixture import ended
from tests.shim_fixture import CAPABILITIES, Box, box, make_process

from sampan.errors import SampanError
from sampan.oci import runtime as oci
from sampan.shim.messages import ExecRequest


def in_box(test: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with box() as made:
            await test(made)

    asyncio.run(run())


def test_cve_2016_9962_who_may_trace_finds_nothing_of_the_host_in_what_joins(tmp_path: Path) -> None:
    """With --cap-add SYS_PTRACE non-dumpable protects nothing: what can be seen holds nothing of the host."""
    marker = tmp_path / "of-the-host"
    marker.write_text("")
    every = [*CAPABILITIES, "CAP_SYS_PTRACE"]
    tracer = oci.Capabilities(bounding=every, effective=every, permitted=every)
    watch = (
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || "
        f"for way in $p/root $p/cwd $p/fd/*/../../../../../../..; do [ -e $way{marker} ] && echo $way; done; "
        "done; done >> /tmp/seen 2>/dev/null"
    )

    async def test(made: Box) -> None:
        await made.start(["sh", "-c", watch], process={"capabilities": tracer})
        for _ in range(20):
            await made.exec(["true"])
        assert await made.exec(["cat", "/tmp/seen"]) == (0, "")

    in_box(test)


def test_whatever_of_an_exec_is_killed_the_container_can_end() -> None:
    """Process 1 ends after all of its pid namespace; an exec's process that nobody reaps would keep it for ever."""

    async def test(made: Box) -> None:
        started = await made.start(["sleep", "1000"])
        shim = parent(started.pid)
        for pid in children(shim) - {started.pid}:
            ended(pid)  # the starter: what it hands over must have reached the shim
        stop = threading.Event()
        killer = threading.Thread(target=kill_children, args=(shim, started.pid, stop))
        killer.start()
        try:
            for number in range(40):
                with contextlib.suppress(SampanError):
                    await started.exec(ExecRequest(str(number), make_process(["true"])), None)
        finally:
            stop.set()
            killer.join()
        started.signal(9)
        assert (await made.exited())["status"] == 137

    in_box(test)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill_children(shim: int, init: int, stop: threading.Event) -> None:
    """SIGKILL for all children of the shim but the container's process 1, as soon as they are seen."""
    while not stop.is_set():
        for pid in children(shim) - {init}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
