"""Attacks on the runtime from an image or from inside a container; each carries its CVE's number."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.shim_fixture import Box, box, make_root

from sampan.errors import InvalidArgument, StartFailed
from sampan.oci import runtime as oci


def in_box(test: Callable[[Box], Awaitable[None]]) -> None:
    async def run() -> None:
        async with box() as made:
            await test(made)

    asyncio.run(run())


def linux(spec: oci.Spec) -> oci.Linux:
    assert spec.linux is not None
    return spec.linux


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_cve_2019_19921_2023_27561_2026_41579_a_link_in_place_of_a_kernel_mount(name: str) -> None:
    async def test(made: Box) -> None:
        (made.root / name).symlink_to("/tmp")
        with pytest.raises(StartFailed, match="must be mounted on ordinary directory"):
            await made.start(["true"])

    in_box(test)


def test_cve_2021_30465_a_mount_target_that_is_a_link_stays_inside(tmp_path: Path) -> None:
    async def test(made: Box) -> None:
        victim = tmp_path / "victim"
        victim.mkdir()
        (made.root / "link").symlink_to(f"../../../../../..{victim}")
        (made.root / "absolute").symlink_to(str(victim))
        source = tmp_path / "source"
        source.write_text("from the host")

        def add(spec: oci.Spec) -> None:
            for place in ("link/deep/file", "absolute/file"):
                spec.mounts.append(
                    oci.Mount(destination=f"/{place}", type="bind", source=str(source), options=["bind", "ro"])
                )

        status, out = await made.run(["cat", "/link/deep/file", "/absolute/file"], change=add)
        assert (status, out) == (0, "from the hostfrom the host")
        assert list(victim.iterdir()) == []

    in_box(test)


@pytest.mark.parametrize(
    "path", ["/proc/self/fd/7", "/proc/self/fd/3/../../..", "/proc/1/cwd", "/proc/self/root/../.."]
)
def test_cve_2024_21626_workdir_through_a_descriptor(path: str) -> None:
    async def test(made: Box) -> None:
        try:
            _, out = await made.run(["pwd"], process={"cwd": path})
        except StartFailed as error:
            assert "cwd" in str(error)
        else:
            assert out.strip() in ("/", "/proc/self/fd")

    in_box(test)


def test_cve_2024_21626_no_descriptor_of_the_host_is_inherited() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        _, inside = await made.exec(["sh", "-c", "ls /proc/1/fd; echo; ls /proc/$$/fd; true"])
        first, own = inside.split("\n\n")
        assert first.split() == ["0", "1", "2"]
        assert set(own.split()) <= {"0", "1", "2", "10"}  # 10: the shell's own script descriptor

    in_box(test)


def test_cve_2019_5736_the_interpreter_cannot_be_written() -> None:
    """The image's entry point is /proc/self/exe: what then runs inside is our interpreter; it must be out of reach."""
    interpreter = Path(sys.executable).resolve()
    before = hashlib.sha256(interpreter.read_bytes()).hexdigest()

    async def test(made: Box) -> None:
        (made.root / "entry").symlink_to("/proc/self/exe")
        attack = (
            "for p in /proc/[0-9]*; do echo x > $p/exe; done 2>>/tmp/errors; "
            "exec 9</proc/self/exe; for p in /proc/[0-9]*; do echo x > $p/fd/9; done 2>>/tmp/errors; cat /tmp/errors"
        )
        await made.start(["sh", "-c", "while :; do sleep 1; done"], init=True)
        _, out = await made.exec(["sh", "-c", attack])
        assert "ermission denied" in out or "Text file busy" in out or "Read-only" in out
        try:
            await made.exec(["/entry", "-c", "open('/proc/self/exe','r+b')"])
        except StartFailed:
            pass  # its loader is not in the image: it never ran

    in_box(test)
    assert hashlib.sha256(interpreter.read_bytes()).hexdigest() == before


def test_cve_2019_5736_the_shims_interpreter_is_on_a_read_only_mount() -> None:
    async def test(made: Box) -> None:
        shim = await made.start(["sleep", "1000"])
        status = Path(f"/proc/{shim.pid}/status").read_text()
        parent = next(line.split()[1] for line in status.splitlines() if line.startswith("PPid"))
        held = os.open(f"/proc/{parent}/exe", os.O_PATH)
        try:
            assert os.fstatvfs(held).f_flag & os.ST_RDONLY
            with pytest.raises(OSError, match=r"busy|Read-only file system"):  # busy while it runs, EROFS later
                os.close(os.open(f"/proc/self/fd/{held}", os.O_RDWR | os.O_APPEND))
        finally:
            os.close(held)

    in_box(test)


def test_cve_2016_9962_a_joining_process_shows_nothing() -> None:
    """While processes join, root inside looks at everything in /proc, without pause."""

    async def test(made: Box) -> None:
        watch = (
            "while :; do for p in /proc/[0-9]*; do "
            "case $(readlink $p/exe) in ''|/bin/busybox) ;; *) readlink $p/exe; readlink $p/cwd;; esac; "
            "done; done >> /tmp/seen 2>/dev/null"
        )
        await made.start(["sh", "-c", watch])
        for _ in range(20):
            await made.exec(["true"])
        assert await made.exec(["cat", "/tmp/seen"]) == (0, "")

    in_box(test)


@pytest.mark.parametrize("name", ["1000", "0x0", "-1", "4294967296", "99999999999999999999"])
def test_cve_2016_3697_2026_46680_2024_40635_numbers_are_numbers(name: str) -> None:
    async def test(made: Box) -> None:
        with (made.root / "etc/passwd").open("a") as passwd:
            passwd.write("1000:x:0:0::/root:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n")
        try:
            _, out = await made.run(["id", "-u"], process={"user": oci.User(username=name)})
        except InvalidArgument as error:
            assert name != "1000"
            assert "unable to find user" in str(error) or "out of range" in str(error)
        else:
            assert (name, out.strip()) == ("1000", "1000")

    in_box(test)


def test_cve_2024_9676_2026_47262_hostile_passwd_files() -> None:
    async def test(made: Box) -> None:
        passwd = made.root / "etc/passwd"
        passwd.unlink()
        os.mkfifo(passwd)
        with pytest.raises((StartFailed, InvalidArgument)):
            await made.start(["true"], process={"user": oci.User(username="sailor")})
        passwd.unlink()
        with passwd.open("wb") as huge:
            huge.truncate(1 << 40)
        with pytest.raises((StartFailed, InvalidArgument)):
            await made.start(["true"], process={"user": oci.User(username="sailor")})
        passwd.unlink()
        passwd.symlink_to("/proc/self/environ")
        with pytest.raises((StartFailed, InvalidArgument)):
            await made.start(["true"], process={"user": oci.User(username="sailor")})

    in_box(test)


def test_cve_2022_24769_inheritable_and_ambient_are_empty() -> None:
    async def test(made: Box) -> None:
        await made.start(["sleep", "1000"])
        for command in (["grep", "Cap", "/proc/1/status"], ["grep", "Cap", "/proc/self/status"]):
            _, out = await made.exec(command)
            sets = dict(line.split() for line in out.splitlines())
            assert int(sets["CapInh:"], 16) == int(sets["CapAmb:"], 16) == 0
            assert bin(int(sets["CapBnd:"], 16)).count("1") == 14

    in_box(test)


@pytest.mark.parametrize(
    "key", ["kernel/../../../tmp/x", "kernel.core_pattern+x", "../x", "net/ipv4/../../../x", "/etc/x"]
)
def test_cve_2022_0811_a_sysctl_is_a_sysctl(key: str) -> None:
    async def test(made: Box) -> None:
        def change(spec: oci.Spec) -> None:
            linux(spec).sysctl = {key: "1"}

        with pytest.raises(StartFailed, match="sysctl"):
            await made.start(["true"], change=change)

    in_box(test)


@pytest.mark.parametrize("path", ["/proc/timer_list", "/proc/keys", "/sys/firmware"])
def test_cve_2015_3630_masked_paths_show_nothing(path: str) -> None:
    async def test(made: Box) -> None:
        _, out = await made.run(["sh", "-c", f"if [ -d {path} ]; then ls -A {path}; else cat {path}; fi"])
        assert out == ""
        assert os.path.exists(path)

    in_box(test)


def test_cve_2025_31133_masks_are_the_null_device_whatever_the_image_has_in_dev() -> None:
    async def test(made: Box) -> None:
        (made.root / "dev").mkdir()
        (made.root / "dev/null").symlink_to("/proc/sysrq-trigger")
        script = "stat -c '%t:%T %F' /dev/null /proc/keys; echo x > /proc/sys/kernel/domainname"
        _, out = await made.run(["sh", "-c", script])
        assert out.splitlines()[0] == out.splitlines()[1] == "1:3 character special file"
        assert "Read-only file system" in out

    in_box(test)


def test_a_host_mount_made_inside_does_not_reach_the_host() -> None:
    async def test(made: Box) -> None:
        before = Path("/proc/self/mountinfo").read_text()
        await made.start(["sleep", "1000"])
        assert Path("/proc/self/mountinfo").read_text() == before

    in_box(test)


@pytest.mark.parametrize("how", ["cloned", "ahead"])
def test_nothing_is_imported_or_opened_by_name_after_the_root_is_entered(tmp_path: Path, how: str) -> None:
    """SECURITY class 2 (CVE-2019-14271): proved by an audit hook in a start of its own. `ahead`: by a process that was
    born before it knew its container.
    """
    make_root(tmp_path / "root")
    (tmp_path / "mount").mkdir()
    cgroup = f"sampan-test-{tmp_path.name}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.audited_start", str(tmp_path), cgroup, how],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_nothing_of_the_hosts_dev_can_be_changed_from_inside() -> None:
    async def test(made: Box) -> None:
        before = os.stat("/dev/null")
        script = "chmod 600 /proc/self/fd/0 /proc/keys /proc/timer_list; chown 5:5 /proc/self/fd/0 /proc/keys"
        await made.run(["sh", "-c", script])
        await made.start(["sh", "-c", f"{script}; sleep 1000"])
        await made.exec(["sh", "-c", script])
        after = os.stat("/dev/null")
        assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, after.st_uid, after.st_gid)

    in_box(test)
