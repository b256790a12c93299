"""Attacks from inside a container on what joins it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.shim_fixture import CAPABILITIES, Box, box

from sampan.oci import runtime as oci


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
