"""A second process in a container, terminals, hooks, limits and failures: runc, crun and ours do the same."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peers import runtimes
from peers.bundle import VIEW, Bundle, Config
from peers.runtimes import PATIENCE, Runtime
from peers.test_differential import ID, unexplained
from peers.variants_namespaces import user_namespace
from peers.view import View, view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAMES = ("runc", "crun", "sampan-runtime")


def idle(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]


def idle_in_a_user_namespace(bundle: Bundle) -> None:
    user_namespace(bundle)
    idle(bundle)


def run_all(directory: Path) -> Iterator[Runtime]:
    """Each runtime in turn; its container is removed afterwards."""
    for runtime in runtimes.runtimes(NAMES, directory):
        try:
            yield runtime
        finally:
            runtime.delete(ID)
            if runtime.name == "crun":  # on v2 crun 1.8 leaves it after a wrong rlimit, without a state to delete it by
                with contextlib.suppress(FileNotFoundError):
                    Path("/sys/fs/cgroup", ID).rmdir()


def detach(runtime: Runtime, bundle: Bundle, *options: str) -> None:
    """Start the bundle's container without following it; nothing of ours stays open in it."""
    with open(bundle.directory / "out", "w") as out:
        runtime("run", "--detach", "--bundle", str(bundle.directory), *options, ID, stdout=out, stderr=out)


def agree(variant: str, views: dict[str, View]) -> None:
    ours = views.pop("sampan-runtime")
    assert not (lines := unexplained(variant, ours, views)), lines


# -- exec

EXECS: dict[str, list[str]] = {
    "plain": [],
    "user": ["--user", "1000:1000"],
    "user_alone": ["--user", "1000"],
    "groups": ["--user", "1000:1000", "--additional-gids", "50"],
    "capabilities": ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_CHOWN"],
    "environment": ["--env", "A=b", "--env", "HOME=/tmp", "--env", "PATH=/bin"],
    "cwd": ["--cwd", "/etc"],
    "no_new_privileges": ["--no-new-privs"],
}


@pytest.mark.parametrize("name", EXECS)
def test_exec(name: str, bundle: Bundle, directory: Path) -> None:
    views = {}
    for runtime in run_all(directory):
        options = [word for word in EXECS[name] if runtime.name != "crun" or word not in ("--additional-gids", "50")]
        bundle.make(idle)
        detach(runtime, bundle)
        views[runtime.name] = view(runtime("exec", *options, ID, "sh", "-c", VIEW).out)
    agree(f"exec_{name}", views)


def test_exec_of_a_process_file(bundle: Bundle, directory: Path) -> None:
    views = {}
    process: Config = {
        "args": ["sh", "-c", VIEW], "cwd": "/tmp", "env": ["PATH=/bin", "X=y"], "noNewPrivileges": True,
        "user": {"uid": 1000, "gid": 50, "additionalGids": [5], "umask": 0o77},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}], "oomScoreAdj": 500,
    }
    for runtime in run_all(directory):
        bundle.make(idle)
        file = bundle.directory / "process.json"
        file.write_text(json.dumps(process))
        detach(runtime, bundle)
        views[runtime.name] = view(runtime("exec", "--process", str(file), ID).out)
    agree("exec_process", views)


def test_exec_in_a_user_namespace(bundle: Bundle, directory: Path) -> None:
    views = {}
    for runtime in run_all(directory):
        bundle.make(idle_in_a_user_namespace)
        detach(runtime, bundle)
        views[runtime.name] = view(runtime("exec", "--user", "1000:1000", ID, "sh", "-c", VIEW).out)
    agree("exec_user_namespace", views)


def test_exit_codes_of_exec(bundle: Bundle, directory: Path) -> None:
    """255 is the runtime's own; a signal is 128 and its number."""
    codes = {}
    for runtime in run_all(directory):
        bundle.make(idle)
        detach(runtime, bundle)
        codes[runtime.name] = [
            runtime("exec", ID, *command, check=False).code
            for command in (["true"], ["sh", "-c", "exit 7"], ["sh", "-c", "kill -9 $$"], ["/no/such"], ["/etc/passwd"])
        ]
    assert codes["sampan-runtime"][:3] == codes["runc"][:3] == [0, 7, 137]
    assert codes["sampan-runtime"] in (codes["runc"], codes["crun"])


# -- terminals


def read_terminal(console: socket.socket) -> str:
    """What is written to the terminal that comes through `console`, until nobody has it any more."""
    connection, _ = console.accept()
    connection.settimeout(PATIENCE)
    with connection:
        fds = array.array("i")
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
        fds.frombytes(ancillary[0][2])
    text = b""
    with open(fds[0], "rb", buffering=0) as master:
        while True:
            try:
                data = master.read(1 << 16)
            except OSError:  # EIO: the last process has closed it
                return text.decode()
            text += data or b""


def test_terminal(bundle: Bundle, directory: Path) -> None:
    def change(it: Bundle) -> None:
        it.process["terminal"] = True
        it.process["consoleSize"] = {"height": 30, "width": 100}

    views = {}
    for runtime in run_all(directory):
        bundle.make(change)
        with socket.socket(socket.AF_UNIX) as console:
            console.bind(str(bundle.directory / "console"))
            console.listen()
            console.settimeout(PATIENCE)
            detach(runtime, bundle, "--console-socket", str(bundle.directory / "console"))
            views[runtime.name] = view(read_terminal(console))
    agree("terminal", views)


def test_terminal_of_exec(bundle: Bundle, directory: Path) -> None:
    views = {}
    for runtime in run_all(directory):
        bundle.make(idle)
        detach(runtime, bundle)
        with socket.socket(socket.AF_UNIX) as console:
            console.bind(str(bundle.directory / "console"))
            console.listen()
            console.settimeout(PATIENCE)
            socket_option = ("--console-socket", str(bundle.directory / "console"))
            runtime("exec", "--tty", "--detach", *socket_option, ID, "sh", "-c", VIEW)
            views[runtime.name] = view(read_terminal(console))
    agree("terminal_exec", views)


# -- hooks

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def test_hooks(bundle: Bundle, directory: Path) -> None:
    """Which hooks run, in which order, with which state, environment and arguments, and in whose namespaces."""
    note = "echo $1 $HOOK $(tr -d '\\n') $(readlink /proc/self/ns/mnt) >>$2"

    def change(it: Bundle) -> None:
        log = it.directory / "log"
        log.write_text("")
        it.process["args"] = ["true"]
        it.config["annotations"] = {"org.example.cargo": "rice"}
        it.mount("/log", "bind", source="log")
        it.config["mounts"][-1]["source"] = str(log)
        it.config["hooks"] = {
            name: [{
                "path": "/bin/sh", "args": ["sh", "-c", note, "sh", name, file], "timeout": 20,
                "env": ["HOOK=yes", "PATH=/bin:/usr/bin"],
            }]
            for name, file in ((name, "/log" if name == "startContainer" else str(log)) for name in HOOKS)
        }

    notes = {}
    for runtime in run_all(directory):
        bundle.make(change)
        runtime("run", "--bundle", str(bundle.directory), ID)
        notes[runtime.name] = [hook(line) for line in (bundle.directory / "log").read_text().splitlines()]
    ours, runc, crun = (notes[name] for name in ("sampan-runtime", "runc", "crun"))
    assert [name for name, *_ in ours] == list(HOOKS)
    # by name: runc runs startContainer and poststart at the same time, and may not know yet that it runs
    running = [(*note[:2], note[2] | {"status": "running"}, note[3]) for note in runc if note[0] == "poststart"]
    for told in ours:
        assert told in [*runc, *crun, *running]


def hook(line: str) -> tuple[str, str, Any, str]:
    name, said, rest = line.split(" ", 2)
    text, _, namespace = rest.rpartition(" ")
    state = json.loads(text)
    own = os.readlink("/proc/self/ns/mnt")
    return name, said, {key: state[key] for key in ("id", "status", "bundle", "annotations")}, \
        "host's" if namespace == own else "own"


# -- failures

FAILURES: dict[str, tuple[str, Any]] = {
    "no_program": ("args", ["/no/such/program"]),
    "not_in_path": ("args", ["nothing-of-this-name"]),
    "not_executable": ("args", ["/etc/passwd"]),
    "a_directory": ("args", ["/etc"]),
    "cwd_is_a_file": ("cwd", "/etc/passwd"),
    "rlimit_unknown": ("rlimits", [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_run(name: str, bundle: Bundle, directory: Path) -> None:
    """The same exit code, a message, and nothing of the container stays."""
    codes = {}
    key, value = FAILURES[name]
    for runtime in run_all(directory):
        bundle.make(lambda it: it.process.__setitem__(key, value))
        ended = runtime("run", "--bundle", str(bundle.directory), ID, check=False)
        codes[runtime.name] = ended.code
        assert ended.err.strip() and not ended.out and "Traceback" not in ended.err
        assert runtime("state", ID, check=False).code != 0
        assert json.loads(runtime("list", "--format", "json").out or "[]") in ([], None)
    assert codes["sampan-runtime"] in (codes["runc"], codes["crun"]), codes


# -- cgroups

LIMITS: Config = {
    "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 50},
    "devices": [
        {"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ],
}
FILES = (
    "memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.low",
    "memory.swap.max", "cpu.shares", "cpu.weight", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "cpuset.cpus",
    "cpuset.mems", "pids.max", "devices.list", "memory.swappiness", "memory.oom_control", "memory.min", "memory.high",
)


def control_files(pid: int) -> dict[str, str]:
    """What the control files of a process's groups say."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers.startswith("name="):
            continue
        base = Path("/sys/fs/cgroup", controllers.partition(",")[0] if controllers else "")
        for name in FILES:
            file = Path(f"{base}{path}", name)
            if file.exists():
                # as runc since 1.2, ours gives nobody the host's TUN device (10:200) without being asked
                found[name] = " ".join(sorted(set(file.read_text().splitlines()) - {"c 10:200 rwm"}))
    return found


@pytest.mark.parametrize("updated", [False, True])
def test_control_files(updated: bool, bundle: Bundle, directory: Path) -> None:
    def change(it: Bundle) -> None:
        idle(it)
        it.linux["resources"] = LIMITS

    said = {}
    for runtime in run_all(directory):
        bundle.make(change)
        detach(runtime, bundle)
        if updated:
            memory = ("--memory", str(48 << 20), "--memory-swap", str(80 << 20))
            runtime("update", *memory, "--pids-limit", "60", "--cpu-share", "256", ID)
        said[runtime.name] = control_files(runtime.state(ID)["pid"])
    assert said["sampan-runtime"].keys() >= {"pids.max"}
    for name, text in said["sampan-runtime"].items():
        if name == "cpu.weight":  # since runc 1.3 and crun 1.23 shares become weights by another formula: ours, too
            continue
        all_say = {who: files.get(name) for who, files in said.items()}
        assert text in (all_say["runc"], all_say["crun"]), (name, all_say)


# -- commands


def test_state(bundle: Bundle, directory: Path) -> None:
    """`state` in each step of a life; runc adds what is its own."""
    stories = {}
    for runtime in run_all(directory):
        bundle.make(idle)
        with open(bundle.directory / "out", "w") as out:
            runtime("create", "--bundle", str(bundle.directory), ID, stdout=out, stderr=out)
        story = [facts(runtime.state(ID))]
        for command in (["start"], ["pause"], ["resume"]):
            runtime(*command, ID)
            story.append(facts(runtime.state(ID)))
        runtime("kill", ID, "KILL")
        stories[runtime.name] = story
    assert stories["sampan-runtime"] == stories["runc"]
    assert [step["status"] for step in stories["runc"]] == ["created", "running", "paused", "running"]


def facts(state: Config) -> Config:
    return {key: state[key] for key in ("id", "status", "bundle", "rootfs")} | {"pid": state["pid"] > 0}
