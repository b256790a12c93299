"""What the launcher's spares make ahead (runtime/ahead.py): the same container comes out, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.shim_fixture import Box, box

from sampan.linux import clone
from sampan.oci import runtime as oci

# Mount point, options, type and options of the file system of all mounts, without what differs between two runs.
VIEW = r"sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/ - (\S+) \S+/ \1/' /proc/self/mountinfo | grep -v overlay | sort"
DEV = "cd /dev && find . | sort | xargs ls -ldn | awk '{print $1, $3, $4, $5, $6, $NF}' | grep -v pts/"
LOOK = f"{VIEW}; {DEV}; ls /proc/fs /proc/irq | sort; ls /sys/firmware; ip -o link; cat /proc/keys; echo $(ls /dev/shm)"
Change = Callable[[oci.Spec], None]
TRIES = 10


def in_box(test: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with box() as made:
            await test(made)

    asyncio.run(run())


def _step(made: Box, name: str) -> bool:
    assert made.shim is not None
    return any(step.name == name for step in made.shim.report.steps)


async def run_until(made: Box, moved: bool, script: str, change: Change | None = None) -> str:
    """What a container says whose mounts were made ahead, or were not: spares learn from those before."""
    for _ in range(TRIES):
        status, out = await made.run(["sh", "-c", script], change=change)
        assert status == 0, out
        if _step(made, "MoveMounts") == moved:
            return out
    raise AssertionError(f"{TRIES} containers and none with MoveMounts={moved}")


def test_what_is_moved_in_looks_as_if_it_were_made_there() -> None:
    async def test(made: Box) -> None:
        before = Path("/proc/self/mountinfo").read_text()
        first = await run_until(made, False, LOOK)
        assert not _step(made, "MoveMounts")
        second = await run_until(made, True, LOOK)
        assert second == first
        assert "/proc/keys" in first
        assert Path("/proc/self/mountinfo").read_text() == before

    in_box(test)


def test_who_wants_other_mounts_gets_them_and_those_behind_him_theirs() -> None:
    def small(spec: oci.Spec) -> None:
        shm = next(entry for entry in spec.mounts if entry.destination == "/dev/shm")
        shm.options = [*(option for option in shm.options if not option.startswith("size=")), "size=128k"]
        assert spec.linux is not None
        spec.linux.masked_paths = []

    async def test(made: Box) -> None:
        script = "df -k /dev/shm | tail -1 | awk '{print $2}'; grep -c ' /proc/keys ' /proc/self/mountinfo || true"
        assert (await run_until(made, True, script)).split() == ["65536", "1"]
        for _ in range(2):  # of the first it is sure that what waits is another's
            _, out = await made.run(["sh", "-c", script], change=small)
            assert out.split() == ["128", "0"]
        assert (await run_until(made, True, script)).split() == ["65536", "1"]

    in_box(test)


def test_nothing_written_in_one_container_is_there_in_the_next() -> None:
    async def test(made: Box) -> None:
        write = "touch /dev/shm/mine /dev/mine; mkdir /dev/mqueue/q 2>/dev/null; ls /dev/shm /dev"
        assert "mine" in await run_until(made, True, write)
        for _ in range(TRIES // 2):
            _, out = await made.run(["sh", "-c", "ls /dev/shm /dev"])
            assert "mine" not in out

    in_box(test)


def test_a_mount_of_the_host_that_came_after_the_spare_is_seen() -> None:
    """A spare's mounts follow the host's, although the host's do not follow its own."""
    async def test(made: Box) -> None:
        late = made.directory / "late"
        late.mkdir()

        def bind(spec: oci.Spec) -> None:
            spec.mounts.append(oci.Mount(destination="/late", type="bind", source=str(late), options=["rbind"]))

        await run_until(made, True, "true", bind)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", late], check=True)
        try:
            (late / "arrived").touch()
            assert "arrived" in await run_until(made, True, "ls /late", bind)
        finally:
            subprocess.run(["umount", late], check=True)

    in_box(test)


def test_a_mount_inside_proc_is_refused_all_the_same() -> None:
    """CVE-2019-16884: the fast way runs the same checks. What lies below is never moved in."""
    def inside(spec: oci.Spec) -> None:
        spec.mounts.append(oci.Mount(destination="/proc/self/attr", type="tmpfs", source="tmpfs"))

    async def test(made: Box) -> None:
        await run_until(made, True, "true")
        for _ in range(3):
            try:
                await made.run(["true"], change=inside)
            except Exception as error:
                assert "/proc/self/attr" in str(error)
            else:
                raise AssertionError("it was mounted")

    in_box(test)


def test_a_root_whose_proc_is_a_link_is_refused_all_the_same() -> None:
    """CVE-2019-19921, 2023-27561."""
    async def test(made: Box) -> None:
        await run_until(made, True, "true")
        (made.root / "proc").symlink_to("tmp")
        for name in ("upper", "work"):  # what the runs before have left would cover it
            subprocess.run(["rm", "-rf", made.directory / name], check=True)
            (made.directory / name).mkdir()
        for _ in range(3):
            try:
                await made.run(["true"])
            except Exception as error:
                assert "/proc" in str(error)
            else:
                raise AssertionError("it was mounted")

    in_box(test)


def test_a_network_namespace_made_ahead_is_not_for_who_shares_the_hosts_or_joins_another() -> None:
    def of_the_host(spec: oci.Spec) -> None:
        assert spec.linux is not None
        spec.linux.namespaces = [it for it in spec.linux.namespaces if it.type != "network"]

    async def test(made: Box) -> None:
        script = "readlink /proc/self/ns/net; ls /sys/class/net"
        own = await run_until(made, True, script)
        host = os.readlink("/proc/self/ns/net")
        assert own.split()[0] != host
        assert own.split()[1:] == ["lo"]
        for _ in range(3):
            _, out = await made.run(["sh", "-c", "readlink /proc/self/ns/net"], change=of_the_host)
            assert out.split() == [host]
        other, inside = _other_network()

        def join(spec: oci.Spec) -> None:
            of_the_host(spec)
            assert spec.linux is not None
            spec.linux.namespaces.append(oci.Namespace(type="network", path=f"/proc/{os.getpid()}/fd/{other}"))

        await run_until(made, True, "true")
        for _ in range(3):
            _, out = await made.run(["sh", "-c", script], change=join)
            assert out.split() == [inside, "lo", "sampan0"]
        os.close(other)

    in_box(test)


def _other_network() -> tuple[int, str]:
    """A network namespace with one more device, and its name: nobody is in it."""
    back = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        clone.unshare(clone.NEWNET)
        subprocess.run(["ip", "link", "add", "sampan0", "type", "bridge"], check=True)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), os.readlink("/proc/self/ns/net")
    finally:
        clone.setns(back, clone.NEWNET)
        os.close(back)


def test_a_first_process_with_a_shared_root_can_still_share() -> None:
    """Spares are no peers of the host's mounts: who wants that is served by a process that is."""
    def shared(spec: oci.Spec) -> None:
        assert spec.linux is not None
        spec.linux.rootfs_propagation = "rshared"

    async def test(made: Box) -> None:
        await run_until(made, True, "true")
        _, out = await made.run(["sh", "-c", "grep ' / / ' /proc/self/mountinfo"], change=shared)
        assert "shared:" in out
        assert not _step(made, "MoveMounts")

    in_box(test)


def _below(pid: int) -> dict[int, int]:
    """All descendants of a process: pid → parent."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = {pid: 0}
    while more := {one: above for one, above in parents.items() if above in found and one not in found}:
        found |= more
    del found[pid]
    return found


def _ended(pidfds: dict[int, int]) -> None:
    for pid, pidfd in pidfds.items():
        assert select.select([pidfd], [], [], 20)[0], f"{pid} is still there"
        os.close(pidfd)


def test_a_launcher_that_is_killed_takes_all_that_waits_with_it() -> None:
    async def test(made: Box) -> None:
        await run_until(made, True, "true")
        assert made.launcher.pid is not None
        pidfds = {pid: os.pidfd_open(pid) for pid in _below(made.launcher.pid)}
        assert len(pidfds) >= 3  # a shim, a husk, and who waits
        os.kill(made.launcher.pid, signal.SIGKILL)
        _ended(pidfds)

    in_box(test)


@pytest.mark.parametrize("which", ["shim", "husk", "waiting"])
def test_a_spare_of_which_one_is_killed_is_replaced_or_serves(which: str) -> None:
    """At rest, each in turn: nothing is left of it, and the next containers start."""
    async def test(made: Box) -> None:
        await run_until(made, True, "true")
        assert made.launcher.pid is not None
        tree = _below(made.launcher.pid)
        shims = [pid for pid, above in tree.items() if above == made.launcher.pid]
        for shim in shims:
            children = sorted(pid for pid, above in tree.items() if above == shim)
            if len(children) < 2:
                continue  # it is being made just now
            victim = {"shim": shim, "husk": children[0], "waiting": children[1]}[which]
            pidfds = {pid: os.pidfd_open(pid) for pid in ([victim] if which == "husk" else [shim, *children])}
            os.kill(victim, signal.SIGKILL)
            if which != "husk":  # it is a zombie until its shim takes it: the other two go on without
                _ended(pidfds)
            else:
                for pidfd in pidfds.values():
                    os.close(pidfd)
        for _ in range(4):
            assert await made.run(["sh", "-c", "echo fine"]) == (0, "fine\n")

    in_box(test)
