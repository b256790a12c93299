"""Debian's dockerd 20.10 and containerd run containers with our runtime; the docker command is the user."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peers import dockerd as fixture
from peers.dockerd import Dockerd, dockerd
from peers.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

WAITS = "trap 'exit 7' TERM; echo ready; while :; do sleep 1000 & wait; done"
"""A shell program that ends with 7 when told to."""
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd() as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(daemon: Dockerd) -> Iterator[None]:
    yield
    daemon.clear()


def begin(daemon: Dockerd, *arguments: str, name: str = "boat") -> int:
    """Run WAITS in the background; the pid of its init, once the program is ready."""
    daemon.run("--detach", "--name", name, *arguments, "busybox", "sh", "-c", WAITS)
    logs = subprocess.Popen(["docker", "logs", "-f", name], env=daemon.environment, stdout=subprocess.PIPE)
    assert logs.stdout is not None
    assert logs.stdout.readline().strip() == b"ready"
    logs.terminate()
    logs.communicate()
    return int(daemon.inspect(name)["State"]["Pid"])


def group_file(pid: int, controller: str, v1: str, v2: str) -> str:
    """What the control file of the process's group says."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if V2 and not controllers:
            return Path(f"/sys/fs/cgroup{path}", v2).read_text().strip()
        if controller in controllers.split(","):
            return Path(f"/sys/fs/cgroup/{controller}{path}", v1).read_text().strip()
    raise AssertionError(f"no group for {controller}")


# -- run


def test_output_and_exit_code(daemon: Dockerd) -> None:
    done = daemon.run("--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42", check=False)
    assert (done.code, done.out, done.err) == (42, "out\n", "err\n")


def test_input(daemon: Dockerd) -> None:
    assert daemon.run("--rm", "-i", "busybox", "tr", "a-z", "A-Z", input=b"sail\n").out == "SAIL\n"


def test_the_container_is_isolated(daemon: Dockerd) -> None:
    script = "hostname; echo $$; ls /sys/class/net; grep -c . /proc/net/route; cat /proc/1/oom_score_adj"
    lines = daemon.run("--rm", "--hostname", "boat", "--oom-score-adj", "77", "busybox", "sh", "-c", script).out.split()
    assert lines == ["boat", "1", "lo", "1", "77"]


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["/no/such/program"], 127, "no such file or directory"),
        (["nothing-of-this-name"], 127, "executable file not found in $PATH"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "is a directory"),
    ],
)
def test_what_cannot_be_started(daemon: Dockerd, command: list[str], code: int, says: str) -> None:
    done = daemon.run("--rm", "busybox", *command, check=False)
    # docker 20.10 does not know that "is a directory" is the command's fault
    assert done.code == code or (done.code == 125 and says == "is a directory"), done.err
    assert says in done.err and "OCI runtime create failed" in done.err


def test_a_wrong_option_is_the_users_fault(daemon: Dockerd) -> None:
    done = daemon.run("--rm", "--sysctl", "net.ipv4.no_such=1", "busybox", "true", check=False)
    assert 125 <= done.code <= 127, done.err
    assert "no_such" in done.err


# -- limits


def test_limits(daemon: Dockerd) -> None:
    pid = begin(
        daemon, "--memory", "32m", "--memory-swap", "32m", "--cpus", "0.5", "--pids-limit", "20", "--cpu-shares", "512",
        "--cpuset-cpus", "0",
    )
    assert group_file(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert group_file(pid, "pids", "pids.max", "pids.max") == "20"
    assert group_file(pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"
    quota = group_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota == ("50000 100000" if V2 else "50000")
    shares = group_file(pid, "cpu", "cpu.shares", "cpu.weight")
    assert shares in (("59", "20") if V2 else ("512",))  # 20: runc before 1.3


def test_limits_are_updated(daemon: Dockerd) -> None:
    pid = begin(daemon, "--memory", "32m", "--memory-swap", "64m")
    daemon("update", "--memory", "48m", "--memory-swap", "48m", "--pids-limit", "30", "--cpus", "0.25", "boat")
    assert group_file(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(48 << 20)
    assert group_file(pid, "pids", "pids.max", "pids.max") == "30"
    assert group_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"


def test_a_kill_for_memory_is_noted(daemon: Dockerd) -> None:
    eater = "x=0123456789abcdef; while :; do x=$x$x; done"
    limit = ("--memory", "16m", "--memory-swap", "16m")
    done = daemon.run("--name", "boat", *limit, "busybox", "sh", "-c", eater, check=False)
    assert done.code == 137, done.err
    assert daemon.inspect("boat")["State"]["OOMKilled"] is True


def test_stats_and_top(daemon: Dockerd) -> None:
    begin(daemon, "--memory", "32m", "--pids-limit", "9")
    stats = json.loads(daemon("stats", "--no-stream", "--format", "{{json .}}", "boat").out)
    assert stats["PIDs"] == "2"
    assert stats["MemUsage"].endswith("/ 32MiB")
    assert re.search(r"sleep 1000", daemon("top", "boat").out)


def test_ulimits(daemon: Dockerd) -> None:
    done = daemon.run("--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert done.out.split() == ["100", "200"]


# -- terminals


def test_a_terminal(daemon: Dockerd) -> None:
    """-t without -i: the program's output goes through a terminal, so its line ends become CR LF."""
    assert daemon.run("--rm", "-t", "busybox", "sh", "-c", "tty; echo x").out == "/dev/pts/0\r\nx\r\n"


def wait_for_size(terminal: Terminal, rows: int, columns: int) -> None:
    """docker's client sends the size once the program is started, and gives up soon if it is not quite; after that
    whenever its own terminal's changes."""
    while True:
        terminal.type("echo size-$(stty size 2>/dev/null)\n")  # nothing, as long as there is none
        terminal.expect("\nsize-")
        if terminal.line() == f"{rows} {columns}":
            return
        terminal.resize(rows, columns + 1)
        terminal.resize(rows, columns)


def test_an_interactive_terminal(daemon: Dockerd) -> None:
    command = ["docker", "run", "--rm", "-it", "--runtime", "sampan", "busybox", "sh"]
    with Terminal(command, daemon.environment, rows=31, columns=97) as terminal:
        terminal.expect("/ # ")
        wait_for_size(terminal, 31, 97)
        terminal.type("sh -c 'echo anch''ored; exec sleep 1000'\n")
        terminal.expect("\nanchored\n")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5


def test_exec_at_a_terminal(daemon: Dockerd) -> None:
    begin(daemon)
    with Terminal(["docker", "exec", "-it", "boat", "sh"], daemon.environment, rows=33, columns=99) as terminal:
        terminal.expect("/ # ")
        terminal.type("tty\n")
        terminal.expect("\n/dev/pts/0\n")
        wait_for_size(terminal, 33, 99)
        terminal.type("exit 6\n")
        assert terminal.wait() == 6


# -- exec


def test_exec(daemon: Dockerd) -> None:
    begin(daemon)
    options = ("-e", "A=b", "-w", "/tmp", "-u", "1000:20")
    done = daemon("exec", *options, "boat", "sh", "-c", "id -u; id -g; pwd; echo $A; exit 3", check=False)
    assert (done.code, done.out.split()) == (3, ["1000", "20", "/tmp", "b"])
    assert daemon("exec", "-i", "boat", "cat", input=b"through").out == "through"
    assert daemon("exec", "-u", "sailor", "boat", "id").out.startswith("uid=1000(sailor) gid=1000(sailor)")


def test_exec_privileged(daemon: Dockerd) -> None:
    begin(daemon)
    plain = daemon("exec", "boat", "grep", "CapEff", "/proc/self/status").out
    assert plain.split()[1] == "00000000a80425fb"
    more = daemon("exec", "--privileged", "boat", "grep", "CapEff", "/proc/self/status").out
    assert int(more.split()[1], 16) > int(plain.split()[1], 16)


def test_exec_that_cannot_be_started(daemon: Dockerd) -> None:
    begin(daemon)
    missing = daemon("exec", "boat", "/no/such/program", check=False)
    assert missing.code == 126 and "no such file or directory" in missing.out + missing.err
    forbidden = daemon("exec", "boat", "/etc/passwd", check=False)
    assert forbidden.code == 126 and "permission denied" in forbidden.out + forbidden.err


def test_exec_detached(daemon: Dockerd) -> None:
    begin(daemon)
    daemon("exec", "-d", "boat", "sh", "-c", "mkfifo /tmp/f; echo done >/tmp/f")
    assert daemon("exec", "boat", "sh", "-c", "until [ -p /tmp/f ]; do :; done; cat /tmp/f").out == "done\n"


# -- life


def test_stop_lets_it_end(daemon: Dockerd) -> None:
    begin(daemon)
    daemon("stop", "--time", "30", "boat")
    state = daemon.inspect("boat")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)


def test_kill_and_signals(daemon: Dockerd) -> None:
    begin(daemon)
    daemon("kill", "--signal", "TERM", "boat")
    assert daemon("wait", "boat").out == "7\n"
    begin(daemon, name="other")
    daemon("kill", "other")
    assert daemon("wait", "other").out == "137\n"


def test_pause(daemon: Dockerd) -> None:
    begin(daemon)
    daemon("pause", "boat")
    assert daemon.inspect("boat")["State"]["Status"] == "paused"
    assert daemon("exec", "boat", "true", check=False).code != 0
    daemon("unpause", "boat")
    assert daemon("exec", "boat", "echo", "sails").out == "sails\n"


def test_restart(daemon: Dockerd) -> None:
    before = begin(daemon)
    daemon("restart", "--time", "0", "boat")
    state = daemon.inspect("boat")["State"]
    assert state["Running"] and state["Pid"] != before
    assert daemon("logs", "boat").out.startswith("ready\n")


def test_force_removal_of_a_running_one(daemon: Dockerd) -> None:
    pid = begin(daemon)
    daemon("rm", "--force", "boat")
    assert not Path(f"/proc/{pid}").exists()


# -- what it sees


def test_privileged(daemon: Dockerd) -> None:
    script = (
        "grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted; ls /dev | wc -l;"
        " [ -w /proc/sys ] && echo rw"
    )
    out = daemon.run("--rm", "--privileged", "busybox", "sh", "-c", script).out.split()
    assert int(out[1], 16) & 1 << 21, out
    assert out[2] == "mounted" and int(out[3]) > 20 and out[4] == "rw"


def test_not_privileged(daemon: Dockerd) -> None:
    script = (
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs none /tmp || echo forbidden;"
        " touch /proc/sys/x || echo ro"
    )
    done = daemon.run("--rm", "busybox", "sh", "-c", script)
    assert done.out.split() == ["CapEff:", "00000000a80425fb", "Seccomp:", "2", "forbidden", "ro"]


def test_device(daemon: Dockerd) -> None:
    script = "stat -c '%t %T %a' /dev/boat; head -c 3 /dev/boat | wc -c"
    done = daemon.run("--rm", "--device", "/dev/zero:/dev/boat:r", "busybox", "sh", "-c", script)
    assert done.out.split() == ["1", "5", "666", "3"]


def test_a_device_is_not_given_more_access(daemon: Dockerd) -> None:
    script = "mknod /tmp/loop b 7 0 && cat /tmp/loop || echo no"
    done = daemon.run("--rm", "busybox", "sh", "-c", script)
    assert done.out == "no\n" and "Operation not permitted" in done.err


def test_read_only(daemon: Dockerd) -> None:
    script = "touch /x || touch /tmp/x && echo on tmpfs; stat -f -c %T /tmp"
    done = daemon.run("--rm", "--read-only", "--tmpfs", "/tmp:size=1m,mode=1777", "busybox", "sh", "-c", script)
    assert done.out == "on tmpfs\ntmpfs\n"


def test_volumes(daemon: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "cargo").write_text("rice\n")
    script = "cat /in/cargo; touch /in/x || echo ro; echo tea >/vol/new && cat /vol/new"
    done = daemon.run("--rm", "-v", f"{tmp_path}:/in:ro", "-v", "/vol", "busybox", "sh", "-c", script)
    assert done.out == "rice\nro\ntea\n"


def test_init(daemon: Dockerd) -> None:
    done = daemon.run("--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/comm; echo $$")
    assert done.out.split()[0] in ("docker-init", "tini", "init") and done.out.split()[1] != "1"


def test_namespaces_of_the_host(daemon: Dockerd) -> None:
    script = "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done"
    options = ("--pid", "host", "--network", "host", "--ipc", "host", "--uts", "host")
    done = daemon.run("--rm", *options, "busybox", "sh", "-c", script)
    assert done.out.split() == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "ipc", "uts")]


def test_namespaces_of_another(daemon: Dockerd) -> None:
    pid = begin(daemon, "--ipc", "shareable")
    script = "for n in pid net ipc; do readlink /proc/self/ns/$n; done"
    options = ("--pid", "container:boat", "--network", "container:boat", "--ipc", "container:boat")
    done = daemon.run("--rm", *options, "busybox", "sh", "-c", script)
    assert done.out.split() == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "net", "ipc")]


def test_capabilities_and_security_options(daemon: Dockerd) -> None:
    script = "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status"
    done = daemon.run(
        "--rm", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges",
        "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", script,
    )
    assert done.out.split() == ["CapBnd:", "0000000000001000", "NoNewPrivs:", "1", "Seccomp:", "0"]


def test_user_of_the_image(daemon: Dockerd) -> None:
    script = "id -u; id -g; id -G"
    done = daemon.run("--rm", "--user", "sailor:crew", "--group-add", "44", "busybox", "sh", "-c", script)
    assert done.out.split() == ["1000", "20", "20", "44"]
    done = daemon.run("--rm", "--user", "sailor", "busybox", "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status")
    assert done.out.split() == ["1000", "1000", "CapEff:", "0000000000000000"]


def test_many_at_once(daemon: Dockerd) -> None:
    command = ["docker", "run", "--rm", "--runtime", "sampan", "busybox", "echo"]
    how: dict[str, Any] = {"env": daemon.environment, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, str(n)], **how) for n in range(6)]
    assert [process.communicate()[0] for process in running] == [f"{n}\n" for n in range(6)]


def test_it_is_our_runtime(daemon: Dockerd) -> None:
    info = json.loads(daemon("info", "--format", "{{json .}}").out)
    assert "sampan" in info["Runtimes"]
    begin(daemon)
    assert daemon.inspect("boat")["HostConfig"]["Runtime"] == "sampan"


def test_user_namespaces() -> None:
    """`--userns-remap`: root of the container is somebody else outside."""
    with dockerd("--userns-remap", "nobody:nogroup") as daemon:
        script = (
            "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox; touch /new && stat -c %u /new;"
            " mount -t tmpfs t /tmp || echo no"
        )
        out = daemon.run("--rm", "busybox", "sh", "-c", script).out.split()
        assert out == ["0", str(fixture.SUBORDINATE), "65536", "0", "0", "0", "no"]
        pid = begin(daemon, "--memory", "32m")
        assert Path(f"/proc/{pid}").stat().st_uid == fixture.SUBORDINATE
        assert daemon("exec", "-u", "1000", "boat", "id", "-u").out == "1000\n"
        done = daemon.run("--rm", "-t", "busybox", "tty")
        assert done.out == "/dev/pts/0\r\n"
        assert daemon.run("--rm", "--userns", "host", "busybox", "cat", "/proc/self/uid_map").out.split()[1] == "0"


@pytest.mark.skipif(not Path("/run/systemd/system").is_dir(), reason="needs systemd: scripts/test-in-vm")
def test_the_systemd_driver() -> None:
    """Groups are scopes that systemd made in the daemon's slice, and limits are the scopes' properties."""
    with dockerd(driver="systemd") as daemon:
        pid = begin(daemon, "--memory", "32m", "--pids-limit", "20")
        scope = f"docker-{daemon.inspect('boat')['Id']}.scope"
        group = Path(f"/proc/{pid}/cgroup").read_text()
        assert f".slice/{scope}\n" in group

        def property_of(name: str) -> str:
            line = ["systemctl", "show", "--property", name, "--value", scope]
            return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

        assert property_of("TasksMax") == "20"
        assert property_of("MemoryMax" if V2 else "MemoryLimit") == str(32 << 20)
        daemon("update", "--memory", "48m", "--memory-swap", "48m", "boat")
        assert group_file(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(48 << 20)
        assert daemon("exec", "boat", "cat", "/proc/self/cgroup").code == 0
        daemon("stop", "--time", "60", "boat")
        assert daemon.inspect("boat")["State"]["ExitCode"] == 7
