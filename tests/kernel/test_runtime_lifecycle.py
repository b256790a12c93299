"""A container of a bundle through its life: create, start, exec, kill, delete, and what each refuses."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_fixture import Dock, dock, ended, one_clear_line

from sampan.linux import process
from sampan.runtime.lifecycle import status
from sampan.runtime.lifecycle.records import Record


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


def test_from_create_to_delete(boat: Dock) -> None:
    boat.create("sleep", "1000")
    created = boat.state()
    assert created["status"] == "created" and created["id"] == boat.name and created["pid"] > 0
    assert (created["bundle"], created["rootfs"]) == (str(boat.directory), str(boat.root))
    assert os.readlink(f"/proc/{created['pid']}/ns/pid") != os.readlink("/proc/self/ns/pid")
    boat.ok("start", boat.name)
    assert boat.state()["status"] == "running"
    assert Path(f"/proc/{created['pid']}/cmdline").read_text() == "sleep\x001000\x00"
    boat.ok("kill", boat.name, "KILL")
    ended(created["pid"])
    stopped = boat.state()
    assert (stopped["status"], stopped["pid"]) == ("stopped", 0)
    boat.ok("delete", boat.name)
    assert boat.call("state", boat.name).returncode == 1
    assert os.listdir(boat.states) == []


def test_what_is_created_is_what_runs(boat: Dock) -> None:
    """A change of the bundle after create means nothing (runtime.md, "Lifecycle")."""
    boat.create("sleep", "1000")
    boat.config["process"]["args"] = ["false"]
    boat.write()
    boat.ok("start", boat.name)
    assert Path(f"/proc/{boat.pid()}/cmdline").read_text() == "sleep\x001000\x00"


def test_the_state_directory_is_for_its_owner_alone(boat: Dock) -> None:
    boat.create("sleep", "1000")
    assert stat.S_IMODE(os.stat(boat.states / boat.name).st_mode) == 0o700


def test_an_id_is_taken_once(boat: Dock) -> None:
    boat.create("sleep", "1000")
    again = boat.call("create", "--bundle", str(boat.directory), boat.name)
    assert (again.returncode, "already exists" in again.stderr) == (1, True)
    assert boat.state()["status"] == "created"


def test_refusals_name_the_state(boat: Dock) -> None:
    pid = boat.launch("sleep", "1000")
    assert "cannot start an already running container" in boat.call("start", boat.name).stderr
    assert "not stopped" in boat.call("delete", boat.name).stderr
    boat.ok("kill", boat.name, "9")
    ended(pid)
    assert "cannot start a container that has stopped" in boat.call("start", boat.name).stderr
    assert "cannot exec in a stopped container" in boat.exec("true").stderr
    assert "container not running" in boat.call("kill", boat.name, "TERM").stderr


def test_a_created_container_can_be_deleted(boat: Dock) -> None:
    boat.create("sleep", "1000")
    pid = boat.pid()
    boat.ok("delete", boat.name)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_created_container_whose_init_was_killed_is_stopped(boat: Dock) -> None:
    boat.create("sleep", "1000")
    pid = boat.pid()
    boat.ok("kill", boat.name, "KILL")
    ended(pid)
    assert boat.state()["status"] == "stopped"
    assert "has stopped" in boat.call("start", boat.name).stderr


@pytest.mark.parametrize("args, code, words", [
    (["missing"], 127, "executable file not found"), (["/bin"], 126, "is a directory"),
    (["/etc/nothing"], 127, "no such file"),
])
def test_a_program_that_cannot_run_is_one_error(boat: Dock, args: list[str], code: int, words: str) -> None:
    done = boat.run(*args)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(boat.states) == []


def test_kill_ends_all_of_a_container_that_shares_its_pids(boat: Dock) -> None:
    namespaces = boat.config["linux"]["namespaces"]
    namespaces[:] = [entry for entry in namespaces if entry["type"] != "pid"]
    boat.config["mounts"] = [mount for mount in boat.config["mounts"] if mount["type"] != "proc"]
    os.mkfifo(boat.root / "tmp" / "other")
    pid = boat.launch("sh", "-c", "sleep 1000 & echo $! > /tmp/other; wait")
    second = int((boat.root / "tmp" / "other").read_text())
    boat.ok("kill", boat.name, "KILL")
    ended(pid)
    ended(second)


def test_exec_is_inside(boat: Dock) -> None:
    pid = boat.launch("sleep", "1000")
    done = boat.exec("sh", "-c", "readlink /proc/self/ns/mnt; hostname; exit 7")
    assert done.returncode == 7
    assert done.stdout.split() == [os.readlink(f"/proc/{pid}/ns/mnt"), "boat"]


def test_exec_of_a_file_is_confined_as_the_container(boat: Dock) -> None:
    boat.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 77}]
    boat.launch("sleep", "1000")
    script = "ulimit -n; grep -E 'CapBnd|CapEff' /proc/self/status"
    process = boat.directory / "process.json"
    process.write_text(json.dumps({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]}))
    own = boat.exec("sh", "-c", script).stdout
    assert own.startswith("77\n") and boat.exec(options=["--process", str(process)]).stdout == own


def test_exec_reaches_a_created_container(boat: Dock) -> None:
    boat.create("sleep", "1000")
    assert boat.exec("hostname").stdout == "boat\n"


def test_the_time_namespace_has_its_offsets(boat: Dock) -> None:
    boat.config["linux"]["namespaces"].append({"type": "time"})
    boat.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 5}}
    with open("/proc/uptime", encoding="ascii") as file:
        before = float(file.read().split()[0])
    inside = float(boat.run("cat", "/proc/uptime").stdout.split()[0])
    assert 1_000_000 <= inside - before < 1_000_100


TEMPORARY = Path(tempfile.gettempdir())
MAPPING = [{"containerID": 0, "hostID": 200_000, "size": 65_536}]


def in_user_namespace(boat: Dock) -> None:
    boat.config["linux"]["namespaces"].append({"type": "user"})
    boat.config["linux"]["uidMappings"] = boat.config["linux"]["gidMappings"] = MAPPING
    for path in (boat.root, *boat.root.parents):
        if path.is_relative_to(TEMPORARY):
            path.chmod(path.stat().st_mode | 0o011)  # its root must be able to reach it
    os.chown(boat.root, 200_000, 200_000)


def test_root_of_a_user_namespace_is_somebody_else_outside(boat: Dock) -> None:
    in_user_namespace(boat)
    pid = boat.launch("sleep", "1000")
    assert os.stat(f"/proc/{pid}").st_uid == 200_000
    assert boat.exec("id", "-u").stdout == "0\n"
    owner = boat.exec("sh", "-c", "stat -c %u /dev/mqueue /dev/shm /proc/1").stdout.split()
    assert owner == ["0", "0", "0"]


def test_a_user_namespace_is_joined_with_what_it_owns(boat: Dock, tmp_path: Path) -> None:
    in_user_namespace(boat)
    pid = boat.launch("sleep", "1000")
    with dock(tmp_path / "second") as second:
        in_user_namespace(second)
        second.config["linux"]["uidMappings"] = second.config["linux"]["gidMappings"] = []
        for namespace in second.config["linux"]["namespaces"]:
            if namespace["type"] in ("user", "network", "ipc"):
                name = {"network": "net"}.get(namespace["type"], namespace["type"])
                namespace["path"] = f"/proc/{pid}/ns/{name}"
        script = "for n in user net ipc pid; do readlink /proc/self/ns/$n; done; id -u"
        done = second.run("sh", "-c", script)
        assert done.returncode == 0, done.stderr
        *namespaces, uid = done.stdout.split()
        theirs = [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("user", "net", "ipc", "pid")]
        assert namespaces[:3] == theirs[:3] and namespaces[3] != theirs[3] and uid == "0"


def join(boat: Dock, pid: int, *kinds: str) -> None:
    """Have the container's namespaces of these kinds be those of a process."""
    for namespace in boat.config["linux"]["namespaces"]:
        if namespace["type"] in kinds:
            name = {"network": "net"}.get(namespace["type"], namespace["type"])
            namespace["path"] = f"/proc/{pid}/ns/{name}"


@pytest.mark.parametrize("mapped", [False, True])
def test_a_joined_namespace_gets_name_and_settings(boat: Dock, tmp_path: Path, mapped: bool) -> None:
    """As a pod's second container has it. With a user namespace somebody else does the joining, ahead."""
    if mapped:
        in_user_namespace(boat)
    pid = boat.launch("sleep", "1000")
    with dock(tmp_path / "second") as second:
        if mapped:
            in_user_namespace(second)
            second.config["linux"]["uidMappings"] = second.config["linux"]["gidMappings"] = []
        join(second, pid, "user", "network", "uts")
        second.config["hostname"], second.config["domainname"] = "second", "harbour"
        second.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "33"}
        done = second.run("sh", "-c", "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_default_ttl")
        assert done.stdout == "second\nharbour\n33\n", done.stderr
    assert boat.exec("hostname").stdout == "second\n"


def test_the_hosts_namespaces_by_path_are_the_hosts(boat: Dock) -> None:
    join(boat, os.getpid(), "uts")
    before = os.uname().nodename
    done = boat.run("true")
    assert "unable to set hostname without a private UTS namespace" in done.stderr
    assert os.uname().nodename == before != boat.config["hostname"]
    boat.config["hostname"] = ""
    boat.config["linux"]["sysctl"] = {"kernel.domainname": "harbour"}
    assert "not in a separate kernel namespace" in boat.run("true").stderr


RANGE = {"containerID": 0, "hostID": 200_000, "size": 10}


@pytest.mark.parametrize(("mappings", "user", "words"), [
    ([RANGE], {"uid": 50, "gid": 0}, "50:0 with 14 capabilities: is not mapped in the container's user namespace"),
    ([RANGE], {"uid": 0, "gid": 50}, "0:50 with 14 capabilities: is not mapped in the container's user namespace"),
    ([RANGE], {"uid": 0, "gid": 0, "additionalGids": [5, 77]}, "5, 77: not all of these groups are mapped"),
    ([RANGE | {"containerID": 1}], {"uid": 1, "gid": 1}, "id 0: is not mapped"),
    ([RANGE, RANGE | {"containerID": 5}], {"uid": 0, "gid": 0}, "uid_map: no such mapping: its ranges overlap"),
])
def test_what_is_not_mapped_is_told(boat: Dock, mappings: Any, user: dict[str, Any], words: str) -> None:
    in_user_namespace(boat)
    boat.config["linux"]["uidMappings"] = boat.config["linux"]["gidMappings"] = mappings
    boat.config["process"]["user"] = user
    done = boat.run("true")
    assert done.returncode == 1 and words in one_clear_line(done.stderr)


def test_the_hosts_network_is_joined_from_a_new_user_namespace(boat: Dock) -> None:
    """Owned by the host, it can be joined only before the user namespace is entered."""
    in_user_namespace(boat)
    for namespace in boat.config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = "/proc/self/ns/net"
    # sysfs shows the network namespace's devices: its mount is the host's alone
    boat.config["mounts"] = [mount for mount in boat.config["mounts"] if mount["type"] != "sysfs"]
    done = boat.run("readlink", "/proc/self/ns/net")
    assert done.stdout.strip() == os.readlink("/proc/self/ns/net"), done.stderr


def test_a_pid_namespace_is_joined(boat: Dock, tmp_path: Path) -> None:
    pid = boat.launch("sleep", "1000")
    with dock(tmp_path / "second") as second:
        for namespace in second.config["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                namespace["path"] = f"/proc/{pid}/ns/pid"
        done = second.run("sh", "-c", "readlink /proc/self/ns/pid; cat /proc/1/cmdline")
        assert done.stdout == f"{os.readlink(f'/proc/{pid}/ns/pid')}\nsleep\x001000\x00", done.stderr


def test_the_pid_file_is_whole_and_the_process(boat: Dock) -> None:
    boat.create("sleep", "1000", options=["--pid-file", str(boat.directory / "pid")])
    assert (boat.directory / "pid").read_text() == str(boat.pid())


def test_a_terminal_goes_to_the_console_socket(boat: Dock) -> None:
    boat.config["process"]["terminal"] = True
    boat.config["process"]["consoleSize"] = {"height": 33, "width": 77}
    path = str(boat.directory / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        boat.create("sh", "-c", "stty size; tty", options=["--console-socket", path])
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    (master,) = fds
    boat.ok("start", boat.name)
    with open(master, "rb", buffering=0) as file:
        said = b""
        while said.count(b"\n") < 2:
            said += file.read(100)
    assert said.split() == [b"33", b"77", b"/dev/pts/0"]


def test_preserved_descriptors_reach_the_program_and_no_others(boat: Dock) -> None:
    reading, writing = os.pipe()
    third = os.open("/", os.O_RDONLY)
    try:
        script = "echo hello >&3; ls /proc/self/fd | tr '\\n' ' '"
        boat.config["process"]["args"] = ["sh", "-c", script]
        boat.write()

        def arrange() -> None:
            os.dup2(writing, 3)
            os.dup2(third, 4)

        done = boat.call(
            "run", "--bundle", str(boat.directory), "--preserve-fds", "1", boat.name, close_fds=False,
            preexec_fn=arrange,
        )
        assert done.returncode == 0, done.stderr
        assert os.read(reading, 100) == b"hello\n"
        assert done.stdout.split() == ["0", "1", "2", "3", "4"]  # 4 is ls's own, of /proc/self/fd
    finally:
        for fd in (reading, writing, third):
            os.close(fd)


def test_list_shows_all_of_them(boat: Dock) -> None:
    boat.create("sleep", "1000")
    found = json.loads(boat.ok("list", "--format", "json"))
    assert [(entry["id"], entry["status"]) for entry in found] == [(boat.name, "created")]


@pytest.mark.parametrize("act", [["delete"], ["delete", "--force"], ["kill", "--all"]])
def test_a_stopped_container_ends_nobody_who_has_its_cgroups_path_now(boat: Dock, act: list[str]) -> None:
    boat.launch("sleep", "1000", name="old")
    old = boat.pid("old")
    boat.ok("kill", "old", "KILL")
    ended(old)
    boat.launch("sleep", "1000", name="new")
    assert json.loads(boat.ok("ps", "--format", "json", "old")) == []
    boat.ok(*act, "old")
    assert boat.state("new")["status"] == "running"
    assert json.loads(boat.ok("ps", "--format", "json", "new")) == [boat.pid("new")]


def test_a_home_that_no_environment_can_hold(boat: Dock) -> None:
    (boat.root / "etc").mkdir(exist_ok=True)
    (boat.root / "etc/passwd").write_bytes(b"root:x:0:0:root:/ro\0ot:/bin/sh\n")
    boat.config["process"]["env"] = ["PATH=/bin"]
    done = boat.run("sh", "-c", "echo $HOME")
    assert done.stdout == "/\n", done.stderr


def test_an_id_may_begin_with_a_dot(boat: Dock) -> None:
    boat.create("sleep", "1000", name=".hidden")
    assert boat.ok("list", "-q") == ".hidden\n"
    boat.ok("delete", "--force", ".hidden")


def test_the_cache_of_filters_is_no_container(boat: Dock) -> None:
    boat.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    boat.run("true")
    assert os.listdir(boat.states) == [".seccomp"] and boat.ok("list", "-q") == ""
    done = boat.call("create", "--bundle", str(boat.directory), ".seccomp")
    assert done.returncode == 1 and "the runtime's own directory" in done.stderr
    assert os.listdir(boat.states / ".seccomp") != []


@pytest.mark.parametrize("place", ["nowhere/pid", "directory"])
def test_a_pid_file_that_cannot_be_leaves_nothing(boat: Dock, place: str) -> None:
    (boat.directory / "directory").mkdir()
    path = boat.directory / place
    before = sorted(os.listdir(boat.directory))
    done = boat.run("sleep", "1000", options=["--detach", "--pid-file", str(path)])
    assert done.returncode == 1 and f"{path}: " in done.stderr
    assert sorted(set(os.listdir(boat.directory)) - {"config.json", "states"}) == before
    assert os.listdir(boat.states) == []
    boat.launch("sleep", "1000")
    done = boat.exec("true", options=["--pid-file", str(path)])
    assert done.returncode == 255 and f"{path}: " in done.stderr
    assert [name for name in os.listdir(boat.directory) if name.startswith(".")] == []


def test_doubled_slashes_of_a_cgroups_path_are_one(boat: Dock) -> None:
    name = boat.config["linux"]["cgroupsPath"].strip("/")
    boat.config["linux"]["cgroupsPath"] = f"//{name}//"
    pid = boat.launch("sleep", "1000")
    assert f":/{name}\n" in Path(f"/proc/{pid}/cgroup").read_text()


FIRST_THREAD_ENDS = """
import _thread, ctypes, os, signal
def other():
    while open(f"/proc/self/task/{os.getpid()}/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    print("ended", flush=True)
    signal.pause()
_thread.start_new_thread(other, ())
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def test_a_process_whose_first_thread_has_ended_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stdout.readline() == "ended\n"
        found = process.stat(program.pid)
        record = Record(id="x", bundle="/", rootfs="/", created="", pid=program.pid, start_time=found.start_time)
        assert found.state == "Z" and status.is_alive(record)
        program.kill()
        ended(program.pid)
        assert process.stat(program.pid).state == "Z" and not status.is_alive(record)
