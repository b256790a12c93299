"""Attacks on the runtime as a command: from the image, from inside, by its arguments; each carries its CVE's number."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, ended, map_ids, one_clear_line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

INTERPRETER = Path(sys.executable).resolve()


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file of the host, whose path means nothing inside."""
    path = tmp_path / "of-the-host"
    path.write_text("secret")
    return path


@pytest.fixture(scope="module")
def catcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("catcher") / "catcher"
    source = Path(__file__).with_name("catcher.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return program


@pytest.fixture
def interpreter_stays() -> Iterator[None]:
    before = hashlib.sha256(INTERPRETER.read_bytes()).hexdigest()
    yield
    assert hashlib.sha256(INTERPRETER.read_bytes()).hexdigest() == before


# ---- CVE-2024-21626: descriptors and working directories of the host ----

LOOK = "pwd; for up in . .. ../.. ../../.. ../../../../../..; do cat $up{0} 2>/dev/null; done; true"


def test_cve_2024_21626_no_descriptor_reaches_the_program(boat: Dock, tmp_path: Path) -> None:
    """Not the runtime's own, and not those its caller forgot to close."""
    leaked = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(5)]
    try:
        done = boat.run("ls", "/proc/self/fd", pass_fds=leaked)
        assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3"]), done.stderr  # 3: what ls reads
        boat.launch("sleep", "1000")
        inside = boat.exec("ls", "/proc/self/fd", "/proc/1/fd", pass_fds=leaked)
        assert set(inside.stdout.split()) == {"/proc/self/fd:", "/proc/1/fd:", "0", "1", "2", "3"}, inside.stderr
        assert inside.stdout.count("3") == 1
    finally:
        for fd in leaked:
            os.close(fd)


@pytest.mark.parametrize("leak", [False, True])
def test_cve_2024_21626_a_working_directory_through_a_descriptor(boat: Dock, marker: Path, leak: bool) -> None:
    leaked = [os.open("/", os.O_RDONLY | os.O_DIRECTORY)] if leak else []
    places = [f"/proc/self/fd/{number}" for number in (*range(3, 13), *leaked)]
    (boat.root / "link").symlink_to("/proc/self/fd/7")
    try:
        for path in (*places, "/link", "/proc/self/fd/7/../../..", "/proc/self/root/../..", "/proc/1/cwd"):
            boat.config["process"]["cwd"] = path
            done = boat.run("sh", "-c", LOOK.format(marker), pass_fds=leaked)
            assert "secret" not in done.stdout
            if done.returncode != 0:
                assert "cwd" in one_clear_line(done.stderr).lower()
    finally:
        for fd in leaked:
            os.close(fd)


def test_cve_2024_21626_an_exec_in_a_directory_through_a_descriptor(boat: Dock, marker: Path) -> None:
    boat.launch("sleep", "1000")
    (boat.root / "link").symlink_to("/proc/self/fd/7")
    for path in (*(f"/proc/self/fd/{number}" for number in range(3, 13)), "/link", "/proc/1/cwd"):
        done = boat.exec("sh", "-c", LOOK.format(marker), options=["--cwd", path])
        assert "secret" not in done.stdout
        if done.returncode != 0:
            assert "cwd" in one_clear_line(done.stderr).lower()


# ---- CVE-2019-5736: the runtime's own executable ----


def test_cve_2019_5736_the_image_asks_for_proc_self_exe(boat: Dock, interpreter_stays: None) -> None:
    """As the program itself, as a script's interpreter, as a link; at run and at exec. It is never our interpreter."""
    (boat.root / "script").write_text("#!/proc/self/exe\nprint('in your interpreter')\n")
    (boat.root / "script").chmod(0o755)
    (boat.root / "link").symlink_to("/proc/self/exe")
    attack = "import os; print('in your interpreter'); open('/proc/self/exe', 'r+b')"
    attempts = (["/script"], ["/link", "-c", attack], ["/proc/self/exe", "-c", attack])
    for attempt in attempts:
        done = boat.run(*attempt)
        assert done.returncode != 0 and "in your interpreter" not in done.stdout
    boat.launch("sleep", "1000")
    for attempt in attempts:
        done = boat.exec(*attempt)
        assert done.returncode != 0 and "in your interpreter" not in done.stdout


@pytest.mark.parametrize("more", [(), ("CAP_SYS_PTRACE",), ("CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH")])
def test_cve_2019_5736_2016_9962_what_joins_is_watched(
    boat: Dock, catcher: Path, marker: Path, interpreter_stays: None, more: tuple[str, ...]
) -> None:
    """While processes join, one inside looks into all that it can reach, with and without the right to trace."""
    watch(boat, catcher, marker, more)
    for number in range(8):
        assert boat.exec("true").returncode == 0, number
    assert_harmless(caught(boat), more)


def test_cve_2019_5736_2016_9962_what_is_born_in_a_pid_namespace_of_others_is_watched(
    boat: Dock, catcher: Path, marker: Path, interpreter_stays: None, tmp_path: Path
) -> None:
    """As containers of a pod. (One that may trace sees what is born: the host, until it is in its root.)"""
    more: tuple[str, ...] = ()
    watch(boat, catcher, marker, more)
    (tmp_path / "other").mkdir()
    with dock(tmp_path / "other") as other:
        namespaces = other.config["linux"]["namespaces"]
        namespaces[0] = {"type": "pid", "path": f"/proc/{boat.pid()}/ns/pid"}
        for _ in range(6):
            done = other.run("true")
            assert done.returncode == 0, done.stderr
    assert_harmless(caught(boat), more)


def test_cve_2019_5736_2016_9962_one_whom_an_exec_put_there_watches(
    boat: Dock, catcher: Path, marker: Path, interpreter_stays: None, tmp_path: Path
) -> None:
    """Process 1 may not trace, but an earlier exec may."""
    put(boat, catcher)
    boat.launch("sleep", "1000")
    pid_file, more = tmp_path / "pid", ("CAP_SYS_PTRACE",)
    boat.ok("exec", "--detach", "--cap", *more, "--pid-file", str(pid_file), boat.name, "sh", "-c",
            f"/catcher {marker} > /found 2>&1")
    for number in range(8):
        assert boat.exec("true").returncode == 0, number
    assert_harmless(caught(boat, int(pid_file.read_text())), more)


def watch(boat: Dock, catcher: Path, marker: Path, more: tuple[str, ...]) -> None:
    """Start a container that watches, with `more` capabilities."""
    for names in boat.config["process"]["capabilities"].values():
        names += more
    put(boat, catcher)
    boat.launch("sh", "-c", f"/catcher {marker} > /found 2>&1; exit 0")


def put(boat: Dock, catcher: Path) -> None:
    (boat.root / "catcher").write_bytes(catcher.read_bytes())
    (boat.root / "catcher").chmod(0o755)


def caught(boat: Dock, pid: int = 0) -> list[list[str]]:
    pid = pid or boat.pid()
    (boat.root / "stop").touch()
    ended(pid)
    return [line.split() for line in (boat.root / "found").read_text().splitlines()]


def assert_harmless(found: list[list[str]], more: tuple[str, ...]) -> None:
    """Nothing of the host is within reach, no executable file can ever be written, and only who may trace does."""
    allowed = {"exe"} | ({"traced"} if more else set())
    assert [line for line in found if line[0] not in allowed] == []
    assert [line for line in found if line[0] == "exe" and line[1] not in ("readonly", "sealed")] == []


# ---- CVE-2020-15257: sockets that others reach ----


def test_cve_2020_15257_the_start_socket_has_a_name_that_only_root_reaches(boat: Dock) -> None:
    before = Path("/proc/net/unix").read_text()
    boat.create("sleep", "1000")
    added = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if line not in before]
    assert not any(len(line) > 7 and line[7].startswith("@") for line in added)  # abstract: in reach of a host network
    path = boat.states / boat.name / "start.sock"
    assert path.is_socket()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        try:
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(str(path))
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert boat.state()["status"] == "created"


def test_cve_2020_15257_a_container_cannot_start_itself_by_its_socket(boat: Dock) -> None:
    """Where the state directory is mounted into a container: a peer of the container's pid namespace is refused."""
    boat.states.mkdir()
    boat.config["mounts"].append(
        {"destination": "/states", "type": "bind", "source": str(boat.states), "options": ["bind"]}
    )
    boat.create("sh", "-c", "echo started > /out; sleep 1000")
    says = "import socket,sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])"
    path = boat.states / boat.name / "start.sock"
    command = [sys.executable, "-c", says + "; s.send(b'{\"start\":true}'); s.recv(1)", str(path)]
    pid = boat.pid()
    command = ["nsenter", f"--target={pid}", "--pid", *command]
    joined = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert joined.returncode in (0, 1), joined.stderr
    assert boat.state()["status"] == "created" and not (boat.root / "out").exists()


def test_the_state_directory_is_roots_alone(boat: Dock) -> None:
    boat.create("sleep", "1000")
    for path in (boat.states / boat.name, *(boat.states / boat.name).iterdir()):
        status = path.stat()
        private = stat.S_ISSOCK(status.st_mode) or not status.st_mode & 0o077
        assert status.st_uid == 0 and private, f"{path}: {stat.filemode(status.st_mode)}"
    assert not (boat.states.stat().st_mode & 0o026)


# ---- CVE-2023-25809: the host's cgroups ----

WRITE = """\
for file in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks -o -name '*release*'); do
    { echo 0 > $file; } 2>/dev/null && echo wrote $file
done; true
"""


@pytest.mark.parametrize("own_cgroups", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_cve_2023_25809_cgroups_are_read_only_inside(boat: Dock, own_cgroups: bool, mapped: bool) -> None:
    linux = boat.config["linux"]
    boat.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"]}
    )
    if not own_cgroups:
        linux["namespaces"].remove({"type": "cgroup"})
    if mapped:
        map_ids(boat)
    done = boat.run("sh", "-c", WRITE)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
