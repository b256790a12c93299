"""A shim with another OCI runtime, without an engine: runtimes that hang or lie, and the death of those who start."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, SampanError, StartFailed, Unavailable
from sampan.linux import process
from sampan.linux.cgroup import detect
from sampan.oci.runtime import CPU, Memory, Resources
from sampan.shim.external.hierarchies import _mount_points, remove_empty
from sampan.shim.messages import ExecRequest, Runtime
from shim_fixture import Box, attached, box, make_process, read_all

RUNC = shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/usr/bin") or ""
PATIENCE = 30.0

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not RUNC, reason="needs Debian's runc"),
]


@asynccontextmanager
async def place() -> AsyncIterator[Box]:
    async with box() as made:
        yield made
        assert made.shim is None or made.shim.closed or (made.directory / "run").exists()
    remove_empty(made.cgroup.rpartition("/")[0])


def script(where: Path, text: str, patience: float = PATIENCE) -> Runtime:
    """runc, after what `text` does."""
    path = where / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\nexec {RUNC} \"$@\"\n")
    path.chmod(0o755)
    return Runtime(str(path), patience)


def groups(made: Box) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").rglob("box") if made.cgroup in str(path)]


def nothing_is_left(made: Box) -> None:
    assert not (made.directory / "run").exists() and not groups(made)


def wait_for(pidfd: int) -> None:
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        os.close(pidfd)


@pytest.fixture(scope="module")
def short() -> float:
    """Seconds of patience in which a start surely succeeds on this host, slow as it may be."""
    async def main() -> float:
        async with place() as made:
            begin = time.monotonic()
            assert (await made.run(["true"], runtime=Runtime(RUNC)))[0] == 0
            return max(0.8, 4 * (time.monotonic() - begin))

    return asyncio.run(main())


@pytest.mark.parametrize("when", ["create", "start"])
def test_a_runtime_that_hangs(tmp_path: Path, when: str, short: float) -> None:
    """It is killed with what it forked, when its patience is over, and the start fails."""
    pid_file = tmp_path / "pid"
    forks = f"sleep 1000 & echo $! > {pid_file}; sleep 1000"
    runtime = script(tmp_path, f'case "$*" in *" {when} "*) {forks};; esac', short)

    async def main() -> None:
        async with place() as made:
            with pytest.raises(StartFailed, match=f"OCI runtime {when} failed: runtime {when} did not end within"):
                await made.start(["sleep", "1000"], runtime=runtime)
            nothing_is_left(made)
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid_file.read_text()), 0)

    asyncio.run(main())


def test_an_exec_that_hangs_keeps_nobody_waiting(tmp_path: Path, short: float) -> None:
    gate = tmp_path / "gate"
    hangs = f"test -p {gate} && {{ echo at it > {gate}; sleep 1000; }}"
    runtime = script(tmp_path, f'case "$*" in *" exec "*) {hangs};; esac', 2 * short)

    async def main() -> None:
        async with place() as made:
            shim = await made.start(["sleep", "1000"], runtime=runtime)
            os.mkfifo(gate)
            hanging = asyncio.create_task(shim.exec(ExecRequest("h", make_process(["true"])), None))
            await asyncio.to_thread(gate.read_text)
            gate.unlink()
            assert await made.exec(["sh", "-c", "exit 4"]) == (4, "")
            assert not hanging.done()
            with pytest.raises(StartFailed, match="runtime exec did not end within"):
                await hanging
            assert not list((made.directory / "run").glob("exec-*"))
            shim.signal(signal.SIGKILL)
            assert (await made.exited())["status"] == 137
            assert not groups(made)

    asyncio.run(main())


def test_the_end_does_not_wait_for_a_command_that_hangs(tmp_path: Path, short: float) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    hangs = f'*" pause "*) echo at it > {gate}; sleep 1000;; *" delete "*) sleep 1000'
    runtime = script(tmp_path, f'case "$*" in {hangs};; esac', short)

    async def main() -> None:
        async with place() as made:
            shim = await made.start(["sleep", "1000"], runtime=runtime)
            order = asyncio.create_task(shim.command("pause"))
            await asyncio.to_thread(gate.read_text)
            shim.signal(signal.SIGKILL)
            assert (await made.exited())["status"] == 137
            with pytest.raises(Unavailable, match="OCI runtime pause failed"):
                await order
            assert not groups(made)
            assert {path.name for path in (made.directory / "run").iterdir()} == {"exit.json", "shim.sock"}

    asyncio.run(main())


def test_the_starter_is_killed(tmp_path: Path) -> None:
    """The shim has become its heir, and undoes what it had begun."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    runtime = script(tmp_path, f'case "$*" in *" start "*) echo $PPID > {gate}; sleep 1000;; esac')

    async def main() -> None:
        async with place() as made:
            begun = asyncio.create_task(made.start(["sleep", "1000"], runtime=runtime))
            starter = int(await asyncio.to_thread(gate.read_text))
            assert groups(made)
            shim = os.pidfd_open(process.stat(starter).parent)
            os.kill(starter, signal.SIGKILL)
            with pytest.raises(SampanError, match="the shim ended before the container had started"):
                await begun
            wait_for(shim)
            nothing_is_left(made)

    asyncio.run(main())


@pytest.mark.parametrize(("text", "words"), [
    ('echo 1 > "${11}"; exit 0', "process 1 is not its own child"),
    ('echo 999999999 > "${11}"; exit 0', "did not say which process it made"),
    ('echo x > "${11}"; exit 0', "did not say which process it made"),
    ('ln -s /etc/passwd "${11}"; exit 0', "did not say which process it made"),
])
def test_a_pid_file_that_lies(tmp_path: Path, text: str, words: str) -> None:
    """--root R --log L --log-format json create --bundle B --pid-file P: it is the eleventh word."""
    runtime = script(tmp_path, text)

    async def main() -> None:
        async with place() as made:
            with pytest.raises(StartFailed, match=words):
                await made.start(["true"], runtime=runtime)
            nothing_is_left(made)

    asyncio.run(main())


def test_a_terminal_that_is_none(tmp_path: Path) -> None:
    """What comes over the console socket is looked at before it is used."""
    sends = tmp_path / "sends.py"
    sends.write_text(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('console.sock')\n"
        "socket.send_fds(s, [b'x'], [0])\n"
        "import time\ntime.sleep(1000)\n"
    )
    runtime = script(tmp_path, f'case "$*" in *" create "*) exec /usr/bin/python3 {sends};; esac')

    async def main() -> None:
        async with place() as made:
            with pytest.raises(StartFailed, match="the runtime sent no terminal over the console socket"):
                await made.start(["true"], runtime=runtime, process={"terminal": True})
            nothing_is_left(made)

    asyncio.run(main())


def test_mounts_stay_inside(tmp_path: Path) -> None:
    """The host's mounts do not change while the container runs; the bundle's are in the shim's own namespace."""
    async def main() -> None:
        async with place() as made:
            before = Path("/proc/self/mountinfo").read_text()
            shim = await made.start(["sleep", "1000"], runtime=Runtime(RUNC))
            assert Path("/proc/self/mountinfo").read_text() == before
            assert await made.exec(["true"]) == (0, "")  # from now on it is the shim that serves
            seen = Path(f"/proc/{process.stat(shim.pid).parent}/mountinfo").read_text()
            assert f"{made.directory}/run/rootfs" in seen
            shim.signal(signal.SIGKILL)
            await made.exited()
            assert Path("/proc/self/mountinfo").read_text() == before

    asyncio.run(main())


def test_limits_change_while_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with place() as made:
            shim = await made.start(["sleep", "1000"], runtime=Runtime(RUNC))
            await shim.command("update", Resources(memory=Memory(limit=64 << 20)))
            (value,) = [path.read_text() for name in ("memory.limit_in_bytes", "memory.max")
                        for group in groups(made) if (path := group / name).exists()]
            assert int(value) == 64 << 20
            with pytest.raises(Unavailable, match="OCI runtime update failed: "):
                await shim.command("update", Resources(cpu=CPU(cpus="8000")))
            await shim.command("pause")
            await shim.command("resume")

    asyncio.run(main())


def test_a_terminal_and_its_size() -> None:
    async def main() -> None:
        async with place() as made:
            near, client = attached(stdin=True)
            with near:
                shim = await made.start(
                    ["sh", "-c", "read x; stty size; exit 3"], client, runtime=Runtime(RUNC), open_stdin=True,
                    process={"terminal": True},
                )
                await shim.resize(44, 111)
                near.send(b"\n")
                assert (await made.exited())["status"] == 3
                assert b"44 111" in await read_all(near)

    asyncio.run(main())


def test_a_user_that_is_not_there() -> None:
    async def main() -> None:
        async with place() as made:
            shim = await made.start(["sleep", "1000"], runtime=Runtime(RUNC))
            process = make_process(["true"])
            process.user.username = "nobody-here"
            with pytest.raises(InvalidArgument, match="unable to find user nobody-here"):
                await shim.exec(ExecRequest("e", process), None)

    asyncio.run(main())


def test_detected_hierarchies_are_all_there() -> None:
    """What `remove_empty` looks through includes everything that our own groups are in."""
    host = detect()
    assert set(host.v1.values()) | ({host.v2} - {""}) <= set(_mount_points())
