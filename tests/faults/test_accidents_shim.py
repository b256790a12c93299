"""Accidents around a shim: whatever is full, gone or never silent, the container lives on and its end is told."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.shim_fixture import Box, attached, box, read_until

from sampan.oci import runtime as oci
from sampan.shim.log import LogFile, open_log
from sampan.shim.messages import Log


def in_box(test: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with box() as made:
            await test(made)

    asyncio.run(run())


def test_the_end_is_told_though_others_go_on_writing() -> None:
    """Without a pid namespace of its own a container's other processes survive its first one."""

    def share_pids(spec: oci.Spec) -> None:
        assert spec.linux is not None
        spec.linux.namespaces = [it for it in spec.linux.namespaces if it.type != "pid"]

    async def test(made: Box) -> None:
        status, _ = await made.run(["sh", "-c", "yes & yes & exit 3"], change=share_pids)
        assert status == 3
        assert list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroup}")) == []

    in_box(test)


def test_an_execs_end_is_told_though_others_go_on_writing() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        for _ in range(3):
            status, _ = await made.exec(["sh", "-c", "for i in 1 2 3 4; do yes & done; exit 5"])
            assert status == 5

    in_box(test)


def test_the_end_is_told_though_it_cannot_be_written_down() -> None:
    async def test(made: Box) -> None:
        started = await made.start(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.01; done"])
        shutil.rmtree(made.directory / "run")
        while (await made.exec(["sh", "-c", "grep SigCgt /proc/1/status"]))[1].split()[1] == "0" * 16:
            pass  # the shell has not set its trap yet
        started.signal(15)
        assert (await made.exited())["status"] == 7

    in_box(test)


def test_a_container_prints_on_though_its_log_cannot_be_rotated() -> None:
    async def test(made: Box) -> None:
        (made.directory / "logs").mkdir()
        near, client = attached(stdin=True)
        with near:
            await made.start(
                ["cat"], client, log=Log(str(made.directory / "logs/log"), 1000, 3), open_stdin=True
            )
            shutil.rmtree(made.directory / "logs")
            loop = asyncio.get_running_loop()
            for number in range(100):
                await loop.sock_sendall(near, f"number {number}\n".encode())
            await read_until(near, b"number 99\n")

    in_box(test)


def test_a_log_that_could_not_be_rotated_goes_on_when_it_can(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    log = LogFile(str(path), 200, 3, open_log(str(path)))
    log.write("stdout", b"before\n")
    path.parent.rename(tmp_path / "away")
    for _ in range(5):
        log.write("stdout", b"lost\n")
    (tmp_path / "away").rename(path.parent)
    for _ in range(2):
        log.write("stdout", b"after\n")
    log.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log.1"]
    kept = [json.loads(line)["log"] for file in ("log.1", "log") for line in (path.parent / file).open()]
    assert kept == ["before\n", "lost\n", "after\n", "after\n"]


def test_a_torn_entry_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    script = (
        "import resource, signal, sys; from sampan.shim.log import LogFile, open_log\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = LogFile(sys.argv[1], 0, 1, open_log(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))\n"
        "log.write('stdout', b'torn\\n'); log.write('stdout', b'lost\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "log.write('stdout', b'whole\\n'); log.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=30)
    torn, whole = path.read_text().splitlines()
    assert len(torn) == 50 and json.loads(whole)["log"] == "whole\n"
    assert "log lines are lost" in done.stderr and "bytes were lost" in done.stderr


def test_nobody_takes_the_shims_complaint() -> None:
    """Its stderr is the engine's log: on the same full disk, or a pipe that is full or has no reader any more."""
    code = [sys.executable, "-c", "from sampan.shim.complaint import complain; complain('a' * 10000); print('on')"]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    with open("/dev/full", "wb") as full:
        for target in (full.fileno(), writer):
            done = subprocess.run(code, stderr=target, stdout=subprocess.PIPE, check=True, timeout=30)
            assert done.stdout == b"on\n"
    os.close(reader)
    assert subprocess.run(code, stderr=writer, stdout=subprocess.PIPE, check=True, timeout=30).stdout == b"on\n"
    os.close(writer)
