"""Launcher, shim and runtime on the real kernel, without an engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.shim_fixture import CAPABILITIES, Box, attached, box, read_all, read_until

from sampan.errors import InvalidArgument, NotFound, StartFailed
from sampan.linux.cgroup import Group, detect
from sampan.oci import runtime as oci
from sampan.shim.client import ShimClient
from sampan.shim.messages import Log


def in_box(test: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with box() as made:
            await test(made)

    asyncio.run(run())


def test_output_exit_status_and_cleanup() -> None:
    async def test(made: Box) -> None:
        status, out = await made.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert status == 3
        assert sorted(out.split()) == ["err", "out"]
        assert json.loads((made.directory / "run/exit.json").read_bytes())["status"] == 3
        entries = [json.loads(line) for line in (made.directory / "log.json").read_text().splitlines()]
        assert {(entry["stream"], entry["log"]) for entry in entries} == {("stdout", "out\n"), ("stderr", "err\n")}

    in_box(test)


def test_namespaces_are_its_own() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        assert made.shim is not None
        for kind in ("pid", "mnt", "net", "uts", "ipc", "cgroup"):
            assert os.readlink(f"/proc/{made.shim.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        assert (await made.exec(["hostname"]))[1] == "boat\n"

    in_box(test)


def test_steps_of_the_start_are_recorded() -> None:
    async def test(made: Box) -> None:
        shim = await made.start(["true"])
        names = [step.name for step in shim.report.steps]
        assert names[0] == "Cgroup" and "Plan" in names
        assert "MountOverlay" in names and names[-1] == "EnterRoot"
        await made.exited()

    in_box(test)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["no-such"], 127, 'exec: "no-such": executable file not found in $PATH'),
        (["/bin/no-such"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "is a directory"),
        ([], 127, "no command specified"),
    ],
)
def test_a_command_that_cannot_run(args: list[str], code: int, words: str) -> None:
    async def test(made: Box) -> None:
        with pytest.raises(StartFailed, match=words.replace("$", r"\$")) as caught:
            await made.start(args)
        assert caught.value.exit_code == code
        assert not (made.directory / "run").exists()

    in_box(test)


def test_unknown_user_and_file_as_workdir_are_clear() -> None:
    async def test(made: Box) -> None:
        with pytest.raises(InvalidArgument, match="unable to find user nobody9: no matching entries in passwd file"):
            await made.start(["true"], process={"user": oci.User(username="nobody9")})
        with pytest.raises(StartFailed, match=r"chdir to cwd .*not a directory"):
            await made.start(["true"], process={"cwd": "/etc/passwd"})

    in_box(test)


def test_user_groups_home_and_capabilities() -> None:
    async def test(made: Box) -> None:
        status, out = await made.run(
            ["sh", "-c", "id; echo $HOME; grep Cap /proc/self/status; echo hi > /dev/stdout"],
            process={"user": oci.User(username="sailor")},
        )
        assert status == 0
        assert "uid=1000(sailor) gid=1000(sailor) groups=20(crew),1000(sailor)" in out or "20(crew)" in out
        assert "/home/sailor" in out and "hi" in out
        sets = {line[:6]: int(line[7:], 16) for line in out.splitlines() if line.startswith("Cap")}
        assert sets["CapEff"] == sets["CapPrm"] == sets["CapInh"] == sets["CapAmb"] == 0

    in_box(test)


def test_terminal_resize_and_detach_keys() -> None:
    async def test(made: Box) -> None:
        near, client = attached(stdin=True)
        shim = await made.start(["sh"], client, process={"terminal": True}, open_stdin=True)
        loop = asyncio.get_running_loop()
        with near:
            await shim.resize(40, 132)
            await loop.sock_sendall(near, b"stty size; tty\n")
            out = await read_until(near, b"/dev/pts/0")
            assert b"40 132" in out
            await loop.sock_sendall(near, b"\x10\x11")
            await read_all(near)  # ends: detached
        assert (await made.exec(["echo", "alive"]))[1] == "alive\n"

    in_box(test)


def test_stdin_half_close_reaches_the_program() -> None:
    async def test(made: Box) -> None:
        near, client = attached(stdin=True)
        with near:
            await made.start(["cat"], client, open_stdin=True, stdin_once=True)
            await asyncio.get_running_loop().sock_sendall(near, b"x" * 300_000)
            near.shutdown(1)
            assert await read_all(near) == b"x" * 300_000
        assert (await made.exited())["status"] == 0

    in_box(test)


def test_exec_status_terminal_and_environment() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        assert await made.exec(["sh", "-c", "exit 42"]) == (42, "")
        status, out = await made.exec(["sh", "-c", "tty; echo $A; pwd; id -u"], terminal=True, env=["A=b", "PATH=/bin"],
                                      cwd="/tmp", user=oci.User(username="1000"))
        assert status == 0 and out.split() == ["/dev/pts/0", "b", "/tmp", "1000"]
        assert made.shim is not None
        with pytest.raises(StartFailed, match="executable file not found"):
            await made.exec(["no-such"])

    in_box(test)


def test_a_second_engine_finds_the_container() -> None:
    async def test(made: Box) -> None:
        first = await made.start(["sleep", "1000"])
        first.close()
        heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        second = await ShimClient.connect(str(made.directory / "run"), heard.put_nowait)
        assert second.pid == first.pid
        second.signal(signal.SIGKILL)
        assert (await asyncio.wait_for(heard.get(), 10))["status"] == 137
        assert (await asyncio.wait_for(heard.get(), 10))["event"] == "gone"
        with pytest.raises(NotFound):
            await ShimClient.connect(str(made.directory / "run"), heard.put_nowait)

    in_box(test)


def test_killing_the_launcher_leaves_the_container_and_the_next_start_works() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        assert made.launcher.pid is not None
        os.kill(made.launcher.pid, signal.SIGKILL)
        assert (await made.exec(["echo", "alive"]))[1] == "alive\n"
        async with box() as other:
            other.launcher = made.launcher
            assert (await other.run(["echo", "again"]))[1] == "again\n"

    in_box(test)


def test_killing_the_shim_ends_the_container() -> None:
    async def test(made: Box) -> None:
        shim = await made.start(["sleep", "1000"])
        pidfd = os.pidfd_open(shim.pid)
        with open(f"/proc/{shim.pid}/status") as status:
            parent = next(int(line.split()[1]) for line in status if line.startswith("PPid"))
        os.kill(parent, signal.SIGKILL)
        event = await asyncio.wait_for(made.events.get(), 10)
        assert event["event"] == "gone"
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(pidfd, lambda: ended.done() or ended.set_result(None))
        await asyncio.wait_for(ended, 10)
        loop.remove_reader(pidfd)
        os.close(pidfd)
        Group.open(detect().without_v2(), made.cgroup).remove()

    in_box(test)


def test_init_reaps_orphans_and_passes_signals_on() -> None:
    async def test(made: Box) -> None:
        script = "trap 'exit 9' TERM; (sleep 0.05 &) ; while :; do sleep 0.1; done"
        shim = await made.start(["sh", "-c", script], init=True)
        _, names = await made.exec(["sh", "-c", "cat /proc/1/comm; ls -l /proc/1/exe 2>&1"])
        assert names.startswith("sampan-init")
        assert "->" not in names or "cannot read link" in names  # the host's interpreter cannot be reached
        assert sorted(os.listdir(f"/proc/{shim.pid}/fd"), key=int) == ["0", "1", "2"]
        shim.signal(signal.SIGTERM)
        assert (await made.exited())["status"] == 9

    in_box(test)


def test_the_memory_limit_kills_and_says_so() -> None:
    async def test(made: Box) -> None:
        def limit(spec: oci.Spec) -> None:
            assert spec.linux is not None
            spec.linux.resources = oci.Resources(memory=oci.Memory(limit=16 << 20, swap=16 << 20))

        await made.start(["sh", "-c", "exec tail /dev/zero"], change=limit)
        end = await made.exited()
        assert end["status"] == 137 and end["oom_killed"] and end["memory_limit_hit"]

    in_box(test)


def test_a_program_that_prints_without_end_keeps_the_log_bounded() -> None:
    async def test(made: Box) -> None:
        made_log = Log(str(made.directory / "log.json"), 100_000, 2)
        near, client = attached()
        with near:
            await made.start(["sh", "-c", "yes | head -c 3000000"], client, log=made_log)
            got = await read_all(near)
        assert len(got) == 3_000_000
        await made.exited()
        sizes = [path.stat().st_size for path in made.directory.glob("log.json*")]
        assert len(sizes) == 2 and max(sizes) <= 100_000

    in_box(test)


def test_a_user_namespace_confines_capabilities() -> None:
    """Ids are the host's; root's capabilities hold for nothing that the host's user namespace owns."""

    async def test(made: Box) -> None:
        def confined(spec: oci.Spec) -> None:
            assert spec.linux is not None
            spec.linux.namespaces.append(oci.Namespace(type="user"))
            spec.linux.uid_mappings = [oci.IDMapping(container_id=0, host_id=0, size=1 << 20)]
            spec.linux.gid_mappings = spec.linux.uid_mappings

        shim = await made.start(["sleep", "1000"], change=confined)
        script = "id -u; echo x > /file; chown 1000 /file; stat -c %u /file; hostname no"
        names = [*CAPABILITIES, "CAP_SYS_ADMIN"]
        powers = oci.Capabilities(bounding=names, effective=names, permitted=names)
        status, out = await made.exec(["sh", "-c", script], capabilities=powers)
        assert status != 0 and out.split()[:2] == ["0", "1000"]  # a file may change its owner, the host name stays
        assert "not permitted" in out
        assert os.readlink(f"/proc/{shim.pid}/ns/user") != os.readlink("/proc/self/ns/user")

    in_box(test)


def test_a_time_namespace_has_its_own_clocks() -> None:
    async def test(made: Box) -> None:
        def shifted(spec: oci.Spec) -> None:
            assert spec.linux is not None
            spec.linux.namespaces.append(oci.Namespace(type="time"))
            spec.linux.time_offsets = {"boottime": {"secs": 10_000_000}}

        await made.start(["sleep", "1000"], change=shifted)
        _, out = await made.exec(["cat", "/proc/uptime"])
        assert float(out.split()[0]) > 10_000_000
        async with box() as other:
            _, out = await other.run(["cat", "/proc/uptime"])
            assert float(out.split()[0]) < 10_000_000

    in_box(test)


def test_no_signal_is_ignored_or_blocked_in_the_program() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        for command in (["cat", "/proc/1/status"], ["cat", "/proc/self/status"]):
            _, out = await made.exec(command)
            sets = dict(line.split() for line in out.splitlines() if line.startswith(("SigIgn", "SigBlk")))
            assert set(sets.values()) == {"0" * 16}

    in_box(test)


def test_additional_groups_by_name_and_number() -> None:
    async def test(made: Box) -> None:
        user = oci.User(username="0", additional_groups=["crew", "77"])
        assert (await made.run(["id", "-G"], process={"user": user}))[1].split() == ["0", "20", "77"]
        for group in ("wheel", "-1", "1e3", "4294967296"):
            async with box() as other:
                with pytest.raises(InvalidArgument, match=r"unable to find group|out of range"):
                    await other.start(["true"], process={"user": oci.User(username="0", additional_groups=[group])})

    in_box(test)


def test_oom_score_is_set_or_a_warning_says_why_not() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"], process={"oom_score_adj": 500})
        assert (await made.exec(["cat", "/proc/1/oom_score_adj"]))[1].strip() == "500"
        async with box() as other:
            shim = await other.start(["sleep", "1000"], process={"oom_score_adj": -500})
            _, score = await other.exec(["cat", "/proc/1/oom_score_adj"])
            assert score.strip() == "-500" or "needs CAP_SYS_RESOURCE" in shim.report.warnings[0]

    in_box(test)
