"""Debian's podman 4.3 and conmon run containers with our runtime, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import sailor
from peers.podman import Podman, podman
from peers.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become others")]

WAITS = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done"
"""A shell program that ends with 7 when told to."""
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.fixture(scope="module", params=["root", "rootless"])
def engine(request: pytest.FixtureRequest) -> Iterator[Podman]:
    with podman(rootless=request.param == "rootless") as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(engine: Podman) -> Iterator[None]:
    yield
    engine.clear()


def begin(engine: Podman, *arguments: str, name: str = "boat") -> int:
    """Run WAITS in the background; the pid of its init, once the program is ready."""
    engine.run("--detach", "--name", name, *arguments, "busybox", "sh", "-c", WAITS)
    logs = subprocess.Popen(engine.line("logs", "-f", name), env=engine.environment, stdout=subprocess.PIPE)
    assert logs.stdout is not None
    assert logs.stdout.readline().strip() == b"ready"
    logs.terminate()
    logs.communicate()
    return int(engine.inspect(name)["State"]["Pid"])


def only_root(engine: Podman) -> None:
    if engine.rootless:
        pytest.skip("an ordinary user has no control groups here")


# -- run


def test_output_and_exit_code(engine: Podman) -> None:
    done = engine.run("--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42", check=False)
    assert (done.code, done.out, done.err) == (42, "out\n", "err\n")


def test_it_is_our_runtime(engine: Podman) -> None:
    begin(engine)
    assert engine.inspect("boat")["OCIRuntime"] == "sampan"


def test_input(engine: Podman) -> None:
    assert engine.run("--rm", "-i", "busybox", "tr", "a-z", "A-Z", input=b"sail\n").out == "SAIL\n"


def test_users(engine: Podman) -> None:
    script = "id -u; id -g; cat /proc/self/uid_map"
    words = engine.run("--rm", "busybox", "sh", "-c", script).out.split()
    own, others = ["0", str(sailor.UID), "1"], ["1", str(sailor.SUBORDINATE), "65536"]
    mapping = [*own, *others] if engine.rootless else ["0", "0", "4294967295"]
    assert words == ["0", "0", *mapping]
    assert engine.run("--rm", "--user", "sailor", "busybox", "sh", "-c", "id -u; id -g").out.split() == ["1000", "1000"]
    grown = engine.run("--rm", "--user", "0:0", "--group-add", "44", "busybox", "id", "-G").out.split()
    assert set(grown) == {"0", "44"}


def test_keep_id(engine: Podman) -> None:
    if not engine.rootless:
        pytest.skip("maps the user that calls")
    assert engine.run("--rm", "--userns", "keep-id", "busybox", "id", "-u").out == f"{sailor.UID}\n"


def test_isolation(engine: Podman) -> None:
    script = "hostname; echo $$; ls /sys/class/net; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    done = engine.run("--rm", "--hostname", "boat", "busybox", "sh", "-c", script)
    assert done.out.split() == ["boat", "1", "lo", "NoNewPrivs:", "0", "Seccomp:", "2"]


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("/no/such/program", 127, "no such file or directory"),
        ("nothing-of-this-name", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_what_cannot_be_started(engine: Podman, command: str, code: int, says: str) -> None:
    done = engine.run("--rm", "busybox", command, check=False)
    assert done.code == code, done.err
    assert says in done.err


def test_read_only_and_tmpfs(engine: Podman) -> None:
    script = "touch /x || touch /tmp/x && stat -f -c %T /tmp"
    assert engine.run("--rm", "--read-only", "--tmpfs", "/tmp:size=1m", "busybox", "sh", "-c", script).out == "tmpfs\n"


def test_volumes(engine: Podman) -> None:
    cargo = engine.directory / "home" / "cargo"
    cargo.mkdir(exist_ok=True)
    cargo.chmod(0o777)
    (cargo / "in").write_text("rice\n")
    script = "cat /in/in; touch /in/x || echo ro; echo tea >/out/new; echo salt >/vol/s && cat /vol/s"
    volumes = ("-v", f"{cargo}:/in:ro", "-v", f"{cargo}:/out", "-v", "/vol")
    assert engine.run("--rm", *volumes, "busybox", "sh", "-c", script).out == "rice\nro\nsalt\n"
    assert (cargo / "new").read_text() == "tea\n"
    assert (cargo / "new").stat().st_uid == (sailor.UID if engine.rootless else 0)


def test_capabilities(engine: Podman) -> None:
    script = "grep -E 'CapBnd|CapEff' /proc/self/status"
    done = engine.run("--rm", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script)
    assert done.out.split() == ["CapEff:", "0000000000001000", "CapBnd:", "0000000000001000"]


def test_privileged(engine: Podman) -> None:
    script = "mount -t tmpfs none /tmp && echo mounted; grep -c ' /proc/' /proc/self/mounts"
    assert engine.run("--rm", "--privileged", "busybox", "sh", "-c", script, check=False).out == "mounted\n0\n"


def test_init(engine: Podman) -> None:
    init = ("--init", "--init-path", "/usr/libexec/podman/catatonit")
    done = engine.run("--rm", *init, "busybox", "cat", "/proc/1/comm")
    assert done.out.strip() in ("catatonit", "podman-init")


def test_namespaces_of_the_host(engine: Podman) -> None:
    script = "for n in pid net uts; do readlink /proc/self/ns/$n; done"
    done = engine.run("--rm", "--pid", "host", "--network", "host", "--uts", "host", "busybox", "sh", "-c", script)
    assert done.out.split() == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "uts")]


def test_namespaces_of_another(engine: Podman) -> None:
    pid = begin(engine)
    script = "for n in pid net ipc; do readlink /proc/self/ns/$n; done"
    options = ("--pid", "container:boat", "--network", "container:boat", "--ipc", "container:boat")
    done = engine.run("--rm", *options, "busybox", "sh", "-c", script)
    assert done.out.split() == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "net", "ipc")]


# -- terminals


def test_a_terminal(engine: Podman) -> None:
    assert engine.run("--rm", "-t", "busybox", "sh", "-c", "tty; echo x").out == "/dev/pts/0\r\nx\r\n"


def test_an_interactive_terminal(engine: Podman) -> None:
    command = engine.line("run", "--ulimit", "host", "--rm", "-it", "busybox", "sh")
    with Terminal(command, engine.environment, rows=31, columns=97) as terminal:
        terminal.expect("/ # ")
        terminal.type("stty size\n")
        terminal.expect("\n31 97\n")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


# -- exec


def test_exec(engine: Podman) -> None:
    begin(engine)
    options = ("-e", "A=b", "-w", "/tmp", "-u", "1000:20")
    done = engine("exec", *options, "boat", "sh", "-c", "id -u; id -g; pwd; echo $A; exit 3", check=False)
    assert (done.code, done.out.split()) == (3, ["1000", "20", "/tmp", "b"])
    assert engine("exec", "-i", "boat", "cat", input=b"through").out == "through"
    assert engine("exec", "-t", "boat", "tty").out == "/dev/pts/0\r\n"


def test_exec_that_cannot_be_started(engine: Podman) -> None:
    begin(engine)
    assert engine("exec", "boat", "/no/such/program", check=False).code == 127
    assert engine("exec", "boat", "/etc/passwd", check=False).code == 126


# -- life


def test_stop(engine: Podman) -> None:
    begin(engine)
    engine("stop", "--time", "30", "boat")
    state = engine.inspect("boat")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)


def test_kill(engine: Podman) -> None:
    begin(engine)
    engine("kill", "--signal", "TERM", "boat")
    assert engine("wait", "boat").out == "7\n"


def test_logs_and_restart(engine: Podman) -> None:
    before = begin(engine)
    engine("restart", "--time", "0", "boat")
    assert engine.inspect("boat")["State"]["Pid"] != before
    assert engine("logs", "boat").out.startswith("ready\n")


def test_pause(engine: Podman) -> None:
    only_root(engine)
    begin(engine)
    engine("pause", "boat")
    assert engine.inspect("boat")["State"]["Status"] == "paused"
    engine("unpause", "boat")
    assert engine("exec", "boat", "echo", "sails").out == "sails\n"


def test_limits(engine: Podman) -> None:
    only_root(engine)
    pid = begin(engine, "--memory", "32m", "--pids-limit", "20", "--cpus", "0.5")
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())

    def group(controller: str, v1: str, v2: str) -> str:
        places = ("/sys/fs/cgroup", groups[""], v2) if V2 else (f"/sys/fs/cgroup/{controller}", groups[controller], v1)
        return Path(places[0] + places[1], places[2]).read_text().strip()

    assert group("memory", "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert group("pids", "pids.max", "pids.max") == "20"
    assert group("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


def test_health(engine: Podman) -> None:
    begin(engine, "--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
    assert engine("healthcheck", "run", "boat", check=False).code == 1
    engine("exec", "boat", "touch", "/tmp/well")
    assert engine("healthcheck", "run", "boat").code == 0


def test_top(engine: Podman) -> None:
    begin(engine)
    assert "sleep 1000" in engine("top", "boat").out


def test_a_pod(engine: Podman) -> None:
    """Its containers share the network, ipc and uts namespaces that the pod's first container holds."""
    engine("pod", "create", "--name", "fleet", "--network", "none")
    script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done"
    both = [engine.run("--rm", "--pod", "fleet", "busybox", "sh", "-c", script).out.split() for _ in range(2)]
    assert both[0] == both[1] and len(both[0]) == 3
    assert os.readlink("/proc/self/ns/ipc") not in both[0]
    state = json.loads(engine("pod", "inspect", "fleet").out)
    assert state["State"] == "Running"


def test_removal_by_force(engine: Podman) -> None:
    pid = begin(engine)
    engine("rm", "--force", "--time", "0", "boat")
    assert not Path(f"/proc/{pid}").exists()
