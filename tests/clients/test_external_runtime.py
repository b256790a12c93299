"""`--runtime`: containers that another OCI runtime runs, under the unchanged docker command.

runc is Debian's. What it does inside a container is its own affair; here is looked at what is around it: that it is as
with our own runtime.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_fixture import PATIENCE, Engine
from engine_fixture import engine as new_engine
from sampan.linux import process

RUNC = shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/usr/bin")
RUN = ("run", "--rm", "--runtime", "runc")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(RUNC is None, reason="needs Debian's runc"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with new_engine("--add-runtime", f"other={RUNC}") as engine:
        yield engine


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "engine" not in request.fixturenames:
        return
    engine: Engine = request.getfixturevalue("engine")
    engine.remove_containers()
    assert not list((engine.exec_root / "containers").iterdir())
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/containers/" in line]


def parts(engine: Engine, id: str) -> list[Path]:
    """The cgroups of a container, in every hierarchy."""
    return [path for path in Path("/sys/fs/cgroup").rglob(id) if engine.cgroup_parent in str(path)]


def started(engine: Engine, *args: str) -> str:
    return str(engine.docker("run", "-d", "--runtime", "runc", *args).stdout.strip())


# -- names


def test_info_names_the_runtimes(engine: Engine) -> None:
    info = engine.ask("GET", "/info")
    assert info["Runtimes"]["sampan"] == {"path": "sampan"} and info["DefaultRuntime"] == "sampan"
    assert info["Runtimes"]["other"] == info["Runtimes"]["runc"] == {"path": RUNC}
    assert "runc" in engine.docker("info").stdout


@pytest.mark.parametrize(("asked", "shown"), [
    ("", "sampan"), ("sampan", "sampan"), ("runc", "runc"), ("other", "other"), (RUNC, RUNC),
    ("io.containerd.runc.v2", "sampan"),
])
def test_inspect_shows_the_name(engine: Engine, asked: str, shown: str) -> None:
    id = engine.create("true", HostConfig={"Runtime": asked})
    assert engine.inspect(id)["HostConfig"]["Runtime"] == shown


@pytest.mark.parametrize("name", ["fly", "/usr/bin/no-such-runtime", "../runc", "/etc/passwd", "runc\0"])
def test_unknown_names_are_refused(engine: Engine, name: str) -> None:
    status, answer = engine.request(
        "POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Runtime": name}}
    )
    assert (status, answer["message"]) == (400, f"unknown or invalid runtime name: {name}")


def test_a_default_runtime() -> None:
    with new_engine("--default-runtime", "runc") as engine:
        assert engine.ask("GET", "/info")["DefaultRuntime"] == "runc"
        id = engine.run("sleep", "1000")
        assert engine.inspect(id)["HostConfig"]["Runtime"] == "runc"
        assert [step["name"] for step in engine.state(id)["StartSteps"]] == ["Bundle", "Create", "Start"]
        directory = engine.directory / "context"
        directory.mkdir()
        (directory / "Dockerfile").write_text("FROM busybox\nRUN echo made > /file\nRUN test -s /file\n")
        environment = {**engine.environment, "DOCKER_BUILDKIT": "0"}
        subprocess.run(["docker", "build", "-t", "built", directory], env=environment, check=True, capture_output=True)
        assert engine.docker("run", "--rm", "built", "cat", "/file").stdout == "made\n"


@pytest.mark.parametrize(("arguments", "words"), [
    (["--default-runtime", "fly"], "specified default runtime 'fly' does not exist"),
    (["--add-runtime", "sampan=/bin/true"], "runtime name 'sampan' is reserved"),
    (["--add-runtime", "x=bin/true"], "invalid runtime x=bin/true"),
    (["--add-runtime", "x"], "is not of the form name=path"),
])
def test_a_wrong_configuration_ends_the_engine(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [".venv/bin/sampan", "serve", "-H", f"unix://{tmp_path}/s", "--data-root", f"{tmp_path}/d",
               "--exec-root", f"{tmp_path}/e", *arguments]
    where = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr


# -- running


SHOWS: dict[str, tuple[list[str], str, str]] = {
    "user by name": (["-u", "sailor"], "id", "uid=1000(sailor) gid=1000(sailor) groups=20(crew),1000(sailor)\n"),
    "user by number": (["-u", "1234:55"], "id -u; id -g; id -G", "1234\n55\n55\n"),
    "group-add": (["-u", "1000", "--group-add", "crew", "--group-add", "77"], "id -G", "1000 20 77\n"),
    "home of the user": (["-u", "sailor"], "echo $HOME", "/home\n"),
    "home as said": (["-e", "HOME=/x"], "echo $HOME", "/x\n"),
    "workdir": (["-w", "/made/for it"], "pwd; ls -d '/made/for it'", "/made/for it\n/made/for it\n"),
    "names": (["-h", "ship", "--domainname", "sea"], "hostname; cat /proc/sys/kernel/domainname", "ship\nsea\n"),
    "seccomp by default": ([], "grep comp: /proc/self/status", "Seccomp:\t2\n"),
    "seccomp=unconfined": (["--security-opt", "seccomp=unconfined"], "grep comp: /proc/self/status", "Seccomp:\t0\n"),
    "capabilities": (["--cap-drop", "ALL", "--cap-add", "KILL"], "grep CapEff /proc/self/status",
                     "CapEff:\t0000000000000020\n"),
    "no-new-privileges": (["--security-opt", "no-new-privileges"], "grep NoNew /proc/self/status", "NoNewPrivs:\t1\n"),
    "ulimit": (["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn", "100\n200\n"),
    "sysctl": (["--sysctl", "net.ipv4.ip_default_ttl=77"], "cat /proc/sys/net/ipv4/ip_default_ttl", "77\n"),
    "read-only": (["--read-only", "--tmpfs", "/run"], "touch /x 2>&1; touch /run/x && echo but there",
                  "touch: /x: Read-only file system\nbut there\n"),
    "shm-size": (["--shm-size", "3m"], "stat -f -c %b /dev/shm", "768\n"),
    "memory": (["-m", "50m", "--memory-swap", "-1"], "cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "52428800\n"),
    "pids-limit": (["--pids-limit", "33"], "cat /sys/fs/cgroup/pids/pids.max", "33\n"),
    "init": (["--init"], "cat /proc/1/comm; test $$ != 1 && echo not I", "docker-init\nnot I\n"),
    "umask": ([], "umask", "0022\n"),
    "no network": (["--network", "none"], "ls /sys/class/net; cat /sys/class/net/lo/operstate", "lo\nunknown\n"),
    "bridge": ([], "ls /sys/class/net; ip route | wc -l", "eth0\nlo\n2\n"),
    "no descriptors of ours": ([], "ls /proc/1/fd; true", "0\n1\n2\n"),
    "host's namespaces": (["--pid", "host", "--network", "host", "--uts", "host", "--ipc", "host"],
                          "test $$ != 1 && echo not I", "not I\n"),
}
V1_ONLY = pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="looks at cgroup v1 files")


@pytest.mark.parametrize(("options", "script", "output"), [
    pytest.param(*case, id=name, marks=[V1_ONLY] if name in ("memory", "pids-limit") else [])
    for name, case in SHOWS.items()
])
@pytest.mark.parametrize("runtime", ["runc", "sampan-runtime"])
def test_options_show_inside(engine: Engine, runtime: str, options: list[str], script: str, output: str) -> None:
    run = ("run", "--rm", "--runtime", runtime, *options, "busybox", "sh", "-c", script)
    assert engine.docker(*run).stdout == output


def test_no_signal_is_ignored(engine: Engine) -> None:
    assert engine.docker(*RUN, "busybox", "grep", "SigIgn", "/proc/self/status").stdout == "SigIgn:\t0000000000000000\n"


def test_stdin_output_and_status(engine: Engine) -> None:
    done = engine.docker(*RUN, "-i", "busybox", "sh", "-c", "cat; echo no >&2; exit 9", input="word\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (9, "word\n", "no\n")


def test_logs_and_volumes(engine: Engine) -> None:
    id = started(engine, "-v", "hold:/hold", "busybox", "sh", "-c", "echo kept > /hold/x; echo out; echo err >&2")
    assert engine.wait(id) == 0
    done = engine.docker("logs", id)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert engine.docker(*RUN, "-v", "hold:/hold:ro", "busybox", "cat", "/hold/x").stdout == "kept\n"
    engine.docker("rm", id)
    engine.docker("volume", "rm", "hold")


def test_one_container_joins_another(engine: Engine) -> None:
    id = started(engine, "busybox", "sleep", "1000")
    joined = engine.docker(*RUN, "--network", f"container:{id}", "--pid", f"container:{id}", "--ipc", f"container:{id}",
                           "busybox", "sh", "-c", "cat /proc/1/comm; ip -4 addr show eth0 | grep -c inet").stdout
    assert joined == "sleep\n1\n"


def test_user_namespace(engine: Engine) -> None:
    id = engine.run("sh", "-c", "readlink /proc/self/ns/user; id -u", HostConfig={
        "Runtime": "runc", "UsernsMode": "private"})
    assert engine.wait(id) == 0
    namespace, uid = engine.docker("logs", id).stdout.split()
    assert namespace != os.readlink("/proc/self/ns/user") and uid == "0"


def test_out_of_memory_is_told(engine: Engine) -> None:
    id = started(engine, "-m", "8m", "--memory-swap", "8m", "busybox", "tail", "/dev/zero")
    assert engine.wait(id) == 137
    state = engine.state(id)
    assert state["OOMKilled"] and state["KilledBy"] == "memory limit of this container"


def test_stop_restart_and_policy(engine: Engine) -> None:
    id = started(engine, "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    engine.docker("stop", id)
    assert engine.state(id)["ExitCode"] == 3
    engine.docker("start", id)
    engine.docker("restart", "-t", "0", id)
    assert engine.state(id)["Running"]
    engine.docker("kill", "-s", "KILL", id)
    assert engine.state(id)["ExitCode"] == 137 and not parts(engine, id)
    id = started(engine, "--restart", "on-failure:2", "busybox", "false")
    engine.docker("rm", "-f", id)
    assert not parts(engine, id)


def test_terminal(engine: Engine) -> None:
    """A real terminal on the docker command's side: size, echo, exit code."""
    near, far = pty.openpty()
    subprocess.run(["stty", "-F", os.ttyname(far), "rows", "31", "cols", "97"], check=True)
    command = ["docker", *RUN, "-it", "busybox", "sh", "-c", "read line; stty size; tty; exit 6"]
    running = subprocess.Popen(command, env=engine.environment, stdin=far, stdout=far, stderr=far)
    os.close(far)
    os.write(near, b"go\n")
    shown = b""
    try:
        while piece := os.read(near, 4096):
            shown += piece
    except OSError:
        pass  # EIO: its last user has gone
    os.close(near)
    assert running.wait(PATIENCE) == 6
    assert b"31 97" in shown and b"/dev/" in shown


def test_exec(engine: Engine) -> None:
    id = started(engine, "-e", "A=1", "busybox", "sleep", "1000")
    done = engine.docker("exec", "-i", "-e", "B=2", "-w", "/tmp", id, "sh", "-c", "cat; pwd; echo $A$B; exit 7",
                         input="in\n", check=False)
    assert (done.returncode, done.stdout) == (7, "in\n/tmp\n12\n")
    assert engine.docker("exec", "-u", "sailor", id, "id", "-un").stdout == "sailor\n"
    assert engine.docker("exec", "-t", id, "tty").stdout.strip() in ("/dev/pts/0", "/dev/pts/1")
    assert engine.docker("exec", "-u", "nobody-here", id, "id", check=False).returncode == 126
    done = engine.docker("exec", id, "nope", check=False)
    assert done.returncode == 127 and "OCI runtime exec failed: " in done.stderr
    assert engine.docker("exec", id, "/etc/passwd", check=False).returncode == 126
    assert engine.docker("exec", id, "sh", "-c", "kill -9 $$", check=False).returncode == 137
    run = engine.exec_root / "containers" / id
    assert {path.name for path in run.iterdir()} == {"config.json", "rootfs", "runtime", "shim.sock"} | {
        path.name for path in run.glob("ns-*")}


@pytest.mark.parametrize("trick", [
    "mkfifo /etc/passwd", "ln -s /proc/1/mem /etc/passwd", "ln -s /dev/zero /etc/passwd", "mkdir /etc/passwd",
])
def test_exec_does_not_trust_the_containers_files(engine: Engine, trick: str) -> None:
    """CVE-2024-9676, CVE-2026-47262: /etc/passwd is read on the host's side. CVE-2016-3697: a number needs none."""
    id = started(engine, "busybox", "sh", "-c", f"rm /etc/passwd; {trick}; sleep 1000")
    engine.docker("exec", "-u", "0", id, "sh", "-c", "while test -f /etc/passwd; do :; done", check=False)
    done = engine.docker("exec", "-u", "sailor", id, "id", check=False)
    assert done.returncode == 126 and "uid=" not in done.stdout


def test_pause_update_stats_top(engine: Engine) -> None:
    id = started(engine, "-m", "40m", "busybox", "sleep", "1000")
    engine.docker("pause", id)
    assert engine.state(id)["Paused"]
    engine.docker("unpause", id)
    engine.docker("update", "-m", "30m", "--memory-swap", "60m", "--pids-limit", "44", id)
    shown = engine.docker("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", id).stdout
    assert shown.endswith("/ 30MiB 1\n")
    assert "sleep 1000" in engine.docker("top", id).stdout
    engine.docker("pause", id)
    engine.docker("stop", "-t", "0", id)
    assert engine.state(id)["ExitCode"] == 137


def test_orphans_of_a_host_pid_container_are_reaped(engine: Engine) -> None:
    """Their parent is the shim: it takes their exits, and knows the container's own processes from them."""
    script = "for i in 1 2 3; do (sleep 0 &) ; done; sleep 1000"
    id = started(engine, "--pid", "host", "busybox", "sh", "-c", script)
    assert engine.docker("exec", id, "sh", "-c", "(sleep 0 &); exit 4", check=False).returncode == 4
    assert engine.docker("exec", id, "true").returncode == 0
    shim = process.stat(engine.state(id)["Pid"]).parent
    children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    assert children == [str(engine.state(id)["Pid"])]


# -- other runtimes than runc


@pytest.fixture
def crun(tmp_path: Path) -> str:
    """Debian's. The one of Debian 12 refuses hybrid hierarchies: there it runs where the v2 one is not mounted."""
    path = shutil.which("crun")
    if path is None:
        pytest.skip("needs Debian's crun")
    unified = Path("/sys/fs/cgroup/unified")
    if not unified.is_mount():
        return path
    wrapper = tmp_path / "crun"
    wrapper.write_text(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c "
        f"'umount {unified}; exec {path} \"$@\"' crun \"$@\"\n"
    )
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.fixture
def ours() -> str:
    return "sampan-runtime"


@pytest.mark.parametrize("name", ["crun", "ours"])
def test_the_whole_way(engine: Engine, request: pytest.FixtureRequest, name: str) -> None:
    runtime = request.getfixturevalue(name)
    run = ("run", "--rm", "--runtime", runtime)
    done = engine.docker(*run, "-i", "-u", "sailor", "-m", "60m", "busybox", "sh", "-c", "cat; id -u; exit 3",
                         input="in\n", check=False)
    assert (done.returncode, done.stdout) == (3, "in\n1000\n"), done.stderr
    assert engine.docker(*run, "-t", "busybox", "tty").stdout.startswith("/dev/")
    done = engine.docker(*run, "busybox", "nope", check=False)
    assert done.returncode in (125, 127) and "nope" in done.stderr and "not found in $PATH" in done.stderr
    id = engine.docker("run", "-d", "--runtime", runtime, "-m", "60m", "busybox", "sleep", "1000").stdout.strip()
    assert engine.docker("exec", id, "sh", "-c", "exit 7", check=False).returncode == 7
    assert engine.docker("exec", "-t", "-u", "sailor", id, "sh", "-c", "tty; id -u").stdout.endswith("\n1000\n")
    assert engine.docker("exec", id, "nope", check=False).returncode == 127
    engine.docker("pause", id)
    engine.docker("unpause", id)
    engine.docker("update", "-m", "50m", "--memory-swap", "90m", id)
    assert "/ 50MiB" in engine.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", id).stdout
    engine.docker("restart", "-t", "0", id)
    engine.docker("kill", id)
    assert engine.wait(id) == 137 and not parts(engine, id)


# -- failing


@pytest.mark.parametrize(("command", "status", "words"), [
    (["nope"], 127, 'exec: "nope": executable file not found in $PATH: unknown'),
    (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied: unknown'),
    (["-w", "/etc/passwd", "true"], 125, "/etc/passwd"),
    (["-u", "nobody-here", "true"], 125, "unable to find user nobody-here"),
    (["-v", "/etc/passwd:/etc", "true"], 125, "Are you trying to mount a directory onto a file"),
])
def test_what_cannot_start(engine: Engine, command: list[str], status: int, words: str) -> None:
    done = engine.docker(*RUN, *command[:-1], "busybox", command[-1], check=False)
    assert done.returncode == status and words in done.stderr, done.stderr
    assert not engine.ask("GET", "/containers/json?all=1")


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\nexec {RUNC} \"$@\"\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("text", "words"), [
    ("exit 3", "runtime create did not terminate successfully: exit status 3"),
    ("echo out of luck >&2; exit 3", "OCI runtime create failed: out of luck"),
    ('echo \'{"level":"error","msg":"no way"}\' > "$4"; exit 3', "OCI runtime create failed: no way"),
    ("kill -9 $$", "did not terminate successfully: signal 9"),
    ("exit 0", "did not say which process it made"),
    ('case "$*" in *" start "*) exit 5;; esac', "OCI runtime start failed: runtime start did not terminate"),
])
def test_a_failing_runtime_leaves_nothing(engine: Engine, tmp_path: Path, text: str, words: str) -> None:
    done = engine.docker("run", "--runtime", script(tmp_path, text), "busybox", "true", check=False)
    assert done.returncode == 125 and words in done.stderr
    (container,) = engine.ask("GET", "/containers/json?all=1")
    assert container["State"] == "created" and not parts(engine, container["Id"])
    assert not (engine.exec_root / "containers" / container["Id"]).exists()


def test_a_runtime_that_was_removed(engine: Engine, tmp_path: Path) -> None:
    path = script(tmp_path, "")
    id = engine.create("true", HostConfig={"Runtime": path})
    Path(path).unlink()
    status, answer = engine.request("POST", f"/containers/{id}/start")
    assert (status, answer["message"]) == (400, f"unknown or invalid runtime name: {path}")


# -- deaths


@pytest.fixture
def boat() -> Iterator[Engine]:
    """An engine of one's own, to be killed."""
    with new_engine() as engine:
        yield engine


def test_the_engine_dies(boat: Engine) -> None:
    id = started(boat, "-p", "127.0.0.1::80", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    boat.kill()
    boat.start()
    assert boat.state(id)["Running"] and boat.docker("exec", id, "echo", "there").stdout == "there\n"
    boat.docker("pause", id)
    boat.docker("unpause", id)
    boat.docker("stop", id)
    assert boat.state(id)["ExitCode"] == 5 and not parts(boat, id)


def test_it_ends_while_no_engine_is_there(boat: Engine) -> None:
    id = started(boat, "busybox", "sh", "-c", "sleep 1000; exit 5")
    pid = boat.state(id)["Pid"]
    shim = os.pidfd_open(process.stat(pid).parent)
    boat.kill()
    os.kill(pid, signal.SIGKILL)
    wait_for(shim)
    boat.start()
    assert boat.state(id)["ExitCode"] == 137 and not parts(boat, id)


@pytest.mark.parametrize("engine_too", [False, True])
def test_the_shim_dies(boat: Engine, engine_too: bool) -> None:
    """The container goes with it, in every hierarchy, and the runtime knows nothing of it any more."""
    id = started(boat, "busybox", "sleep", "1000")
    pid = boat.state(id)["Pid"]
    init, shim = os.pidfd_open(pid), os.pidfd_open(process.stat(pid).parent)
    if engine_too:
        boat.kill()
    signal.pidfd_send_signal(shim, signal.SIGKILL)
    if engine_too:
        wait_for(shim)
        boat.start()
    assert boat.wait(id) == 137
    wait_for(init)
    assert boat.state(id)["KilledBy"] == "shim lost" and not parts(boat, id)
    boat.docker("start", id)


def wait_for(pidfd: int) -> None:
    assert select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)


def test_the_engine_dies_during_a_start(boat: Engine, tmp_path: Path) -> None:
    """The runtime is at it, and waits for us to have killed the boat."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    path = script(tmp_path, f'case "$*" in *" start "*) echo at it > {gate}; cat {gate};; esac')
    id = boat.create("sleep", "1000", HostConfig={"Runtime": path})
    asker = subprocess.Popen(["docker", "start", id], env=boat.environment, stdout=-3, stderr=-3)
    assert gate.read_text() == "at it\n"
    boat.kill()
    asker.wait(PATIENCE)
    gate.write_text("go on\n")
    boat.start()
    state = boat.state(id)
    assert state["Status"] == "created" and "engine was killed" in state["Error"] and not parts(boat, id)
    assert not list((boat.exec_root / "containers").iterdir())
