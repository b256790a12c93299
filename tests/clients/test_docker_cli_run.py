"""The docker command's `run`: each option shows in the container, its cgroups, its namespaces or on the network."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from engine_fixture import Engine

HAS_LOOP_CONTROL = pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs /dev/loop-control")


@pytest.fixture(autouse=True)
def tidy(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_containers()
    engine.ask("POST", f"/volumes/prune?filters={quote(json.dumps({'all': ['1']}))}")


def inspect(engine: Engine, name: str, form: str = "{{json .}}") -> Any:
    return json.loads(engine.docker("inspect", "-f", form, name).stdout)


def started(engine: Engine, *args: str) -> str:
    return engine.docker("run", "-d", *args).stdout.strip()


SHOWS = {
    "env": (["-e", "A=one", "-e", "HOME=/x"], 'echo "$A $HOME"', "one /x\n"),
    "env in the image's order": (["-e", "Z=1"], "env | grep -c ^PATH=", "1\n"),
    "workdir": (["-w", "/made/for it"], "pwd; ls -d '/made/for it'", "/made/for it\n/made/for it\n"),
    "user by name": (["-u", "sailor"], "id", "uid=1000(sailor) gid=1000(sailor) groups=20(crew),1000(sailor)\n"),
    "user by number": (["-u", "1234:55"], "id -u; id -g; id -G", "1234\n55\n55\n"),
    "user's name and group": (["-u", "sailor:crew"], "id -G", "20\n"),
    "group-add": (["-u", "1000", "--group-add", "crew", "--group-add", "77"], "id -G", "1000 20 77\n"),
    "hostname": (["-h", "ship"], "hostname; cat /etc/hostname; grep -c ship /etc/hosts", "ship\nship\n1\n"),
    "domainname": (["-h", "ship", "--domainname", "sea"], "grep -c ship.sea /etc/hosts", "1\n"),
    "add-host": (["--add-host", "port:192.0.2.9"], "grep port /etc/hosts", "192.0.2.9\tport\n"),
    "dns": (["--dns", "192.0.2.3", "--dns-search", "sea", "--dns-option", "ndots:3"], "cat /etc/resolv.conf",
            "nameserver 192.0.2.3\nsearch sea\noptions ndots:3\n"),
    "tmpfs": (["--tmpfs", "/t:size=1m,mode=700"], "stat -f -c %T:%b /t; stat -c %a /t", "tmpfs:256\n700\n"),
    "mount type=tmpfs": (["--mount", "type=tmpfs,dst=/t,tmpfs-size=2m"], "stat -f -c %b /t", "512\n"),
    "shm-size": (["--shm-size", "3m"], "stat -f -c %b /dev/shm", "768\n"),
    "read-only": (["--read-only", "--tmpfs", "/run"], "touch /x 2>&1; touch /run/x && echo but there",
                  "touch: /x: Read-only file system\nbut there\n"),
    "no-new-privileges": (["--security-opt", "no-new-privileges"], "grep NoNew /proc/self/status", "NoNewPrivs:\t1\n"),
    "seccomp by default": ([], "grep comp: /proc/self/status", "Seccomp:\t2\n"),
    "seccomp=unconfined": (["--security-opt", "seccomp=unconfined"], "grep comp: /proc/self/status", "Seccomp:\t0\n"),
    "ulimit": (["--ulimit", "nofile=100:200", "--ulimit", "core=0"], "ulimit -n; ulimit -Hn; ulimit -c",
               "100\n200\n0\n"),
    "oom-score-adj": (["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj", "321\n"),
    "sysctl": (["--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.msgmax=1000"],
               "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", "77\n1000\n"),
    "init": (["--init"], "cat /proc/1/comm; test $$ != 1 && echo not I", "sampan-init\nnot I\n"),
    "no init": ([], "cat /proc/1/comm; echo $$", "sh\n1\n"),
    "network none": (["--network", "none"], "ls /sys/class/net", "lo\n"),
    "network bridge": (["--network", "bridge"], "ls /sys/class/net", "eth0\nlo\n"),
    "mac-address": (["--mac-address", "02:42:00:00:be:ef"], "cat /sys/class/net/eth0/address", "02:42:00:00:be:ef\n"),
    "cap-drop": (["--cap-drop", "ALL"], "grep CapEff /proc/self/status; chown 5 /tmp 2>&1 || :",
                 "CapEff:\t0000000000000000\nchown: /tmp: Operation not permitted\n"),
    "cap-add": (["--cap-drop", "all", "--cap-add", "SYS_ADMIN", "--cap-add", "CAP_CHOWN"],
                "grep -E 'Cap(Inh|Eff|Bnd|Amb)' /proc/self/status",
                "CapInh:\t0000000000000000\nCapEff:\t0000000000200001\nCapBnd:\t0000000000200001\nCapAmb:\t0000000000000000\n"),
    "14 capabilities": ([], "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n"),
    "none for others than root": (["-u", "sailor"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
}


@pytest.mark.parametrize("name", SHOWS)
def test_option(engine: Engine, name: str) -> None:
    options, script, expected = SHOWS[name]
    engine_says = engine.docker("run", "--rm", *options, "busybox", "sh", "-c", script)
    assert (engine_says.stdout, engine_says.stderr) == (expected, "")


def test_output_and_errors_are_two_streams_and_the_exit_code_comes_back(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 42", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 42)
    assert engine.docker("ps", "-aq").stdout == ""


def test_stdin_that_ends_and_stdin_that_is_not_read(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input="in").stdout == "inend\n"
    large = "0123456789abcdef" * (1 << 16)
    assert engine.docker("run", "--rm", "-i", "busybox", "wc", "-c", input=large).stdout.strip() == str(len(large))
    assert engine.docker("run", "--rm", "-i", "busybox", "true", input=large, check=False).returncode == 0
    assert engine.docker("run", "--rm", "busybox", "cat", input="nobody asked").stdout == ""


def test_detached_prints_the_id_and_writes_the_cidfile(engine: Engine, tmp_path: Path) -> None:
    cidfile = tmp_path / "id"
    id = started(engine, "--name", "web", "--cidfile", str(cidfile), "-l", "a=b", "-l", "c", "busybox", "sleep", "1000")
    assert re.fullmatch("[0-9a-f]{64}", id) and cidfile.read_text() == id
    assert inspect(engine, "web", "{{json .Config.Labels}}") == {"a": "b", "c": ""}
    for ref in (id, id[:12], "/web"):
        assert inspect(engine, ref, "{{json .Id}}") == id
    assert engine.docker("ps", "--filter", "label=a=b", "--format", "{{.Names}}").stdout == "web\n"
    assert engine.docker("ps", "-q", "--filter", "label=a=c").stdout == ""


def test_env_file_and_entrypoint(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# no\nFROM_FILE=a b\nOVER=file\n")
    said = engine.docker(
        "run", "--rm", "--env-file", str(tmp_path / "env"), "-e", "OVER=option", "--entrypoint", "sh", "busybox", "-c",
        'echo "$FROM_FILE/$OVER"',
    )
    assert said.stdout == "a b/option\n"
    assert inspect(engine, started(engine, "--entrypoint", "sleep", "busybox", "1000"), "{{json .Path}}") == "sleep"


def limit(engine: Engine, id: str, v1: str, v2: str) -> str:
    """What the kernel has for a container's limit, whichever cgroup version the controller is in."""
    for name in (v1, v2):
        for path in Path("/sys/fs/cgroup").glob(f"**/{engine.cgroup_parent}/{id}/{name}"):
            return path.read_text().strip()
    raise AssertionError(f"no {v1} or {v2} of {id}")


def test_limits_are_in_the_kernels_files_and_can_be_updated(engine: Engine) -> None:
    id = started(
        engine, "-m", "64m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpuset-cpus", "0", "--pids-limit", "50",
        "busybox", "sleep", "1000",
    )
    assert limit(engine, id, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert limit(engine, id, "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
    assert limit(engine, id, "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
    assert limit(engine, id, "cpuset.cpus", "cpuset.cpus") == "0"
    assert limit(engine, id, "pids.max", "pids.max") == "50"
    done = engine.docker("update", "-m", "128m", "--memory-swap", "256m", "--cpus", "1", "--pids-limit", "60", id)
    assert done.stdout == f"{id}\n"
    assert limit(engine, id, "memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert limit(engine, id, "cpu.cfs_quota_us", "cpu.max") in ("100000", "100000 100000")
    assert limit(engine, id, "pids.max", "pids.max") == "60"
    assert inspect(engine, id, "[{{.HostConfig.Memory}},{{.HostConfig.NanoCpus}}]") == [128 << 20, 10**9]


def test_cpu_shares(engine: Engine) -> None:
    id = started(engine, "--cpu-shares", "512", "busybox", "sleep", "1000")
    assert limit(engine, id, "cpu.shares", "cpu.weight") in ("512", "20")


NAMESPACES = [("pid", "--pid"), ("net", "--network"), ("ipc", "--ipc"), ("uts", "--uts"), ("cgroup", "--cgroupns")]


@pytest.mark.parametrize(("kind", "option"), NAMESPACES)
def test_namespace_of_the_host_and_of_its_own(engine: Engine, kind: str, option: str) -> None:
    def namespace(*args: str) -> str:
        return engine.docker("run", "--rm", *args, "busybox", "readlink", f"/proc/self/ns/{kind}").stdout.strip()

    assert namespace(option, "host") == os.readlink(f"/proc/self/ns/{kind}")
    assert namespace() != os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize(("kind", "option"), NAMESPACES[:3])
def test_namespace_of_another_container(engine: Engine, kind: str, option: str) -> None:
    args = ["--ipc", "shareable"] if kind == "ipc" else []
    other = inspect(engine, started(engine, "--name", "other", *args, "busybox", "sleep", "1000"), "{{.State.Pid}}")
    mine = engine.docker("run", "--rm", option, "container:other", "busybox", "readlink", f"/proc/self/ns/{kind}")
    assert mine.stdout.strip() == os.readlink(f"/proc/{other}/ns/{kind}")


def test_bind_mounts(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    script = "cat /there/file; echo made > /there/new; touch /there/new; echo $?"
    said = engine.docker("run", "--rm", "-v", f"{tmp_path}:/there", "busybox", "sh", "-c", script)
    assert said.stdout == "of the host\n0\n" and (tmp_path / "new").read_text() == "made\n"
    for args in (["-v", f"{tmp_path}:/there:ro"], ["--mount", f"type=bind,src={tmp_path},dst=/there,readonly"]):
        done = engine.docker("run", "--rm", *args, "busybox", "touch", "/there/x", check=False)
        assert done.returncode == 1 and "Read-only file system" in done.stderr
    said = engine.docker("run", "--rm", "-v", f"{tmp_path}/file:/etc/one", "busybox", "cat", "/etc/one")
    assert said.stdout == "of the host\n"
    engine.docker("run", "--rm", "-v", f"{tmp_path}/made:/there", "busybox", "true")
    assert (tmp_path / "made").is_dir()


def test_named_and_anonymous_volumes(engine: Engine) -> None:
    engine.docker("run", "--rm", "-v", "cargo:/hold", "busybox", "sh", "-c", "echo tea > /hold/box")
    said = engine.docker("run", "--rm", "--mount", "source=cargo,target=/hold,readonly", "busybox", "cat", "/hold/box")
    assert said.stdout == "tea\n"
    engine.docker("run", "--rm", "-v", "/hold", "busybox", "touch", "/hold/x")
    id = started(engine, "-v", "/hold", "busybox", "sleep", "1000")
    assert len(engine.docker("volume", "ls", "-q").stdout.split()) == 2
    engine.docker("run", "--rm", "-v", "filled:/etc", "busybox", "true")
    assert "passwd" in engine.docker("run", "--rm", "-v", "filled:/x", "busybox", "ls", "/x").stdout
    said = engine.docker("run", "--rm", "--volumes-from", id, "busybox", "ls", "-d", "/hold")
    assert said.stdout == "/hold\n"
    engine.docker("rm", "-fv", id)
    assert engine.docker("volume", "ls", "-q").stdout.split() == ["cargo", "filled"]


def test_privileged(engine: Engine) -> None:
    script = "grep -E 'CapEff|Seccomp:' /proc/self/status; mkdir /m && mount -t tmpfs x /m"
    said = engine.docker("run", "--rm", "--privileged", "busybox", "sh", "-c", script).stdout
    own = int(re.search(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    assert f"CapEff:\t{own:016x}\n" in said and "Seccomp:\t0\n" in said
    refusal = engine.docker("run", "--rm", "busybox", "mount", "-t", "tmpfs", "x", "/tmp", check=False)
    assert refusal.returncode == 1 and "permission denied" in refusal.stderr


def test_own_seccomp_profile(engine: Engine, tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    options = ["--security-opt", f"seccomp={tmp_path}/profile.json"]
    done = engine.docker("run", "--rm", *options, "busybox", "mkdir", "/x", check=False)
    assert done.returncode == 1 and "Operation not permitted" in done.stderr
    engine.docker("run", "--rm", *options, "busybox", "touch", "/x")


@HAS_LOOP_CONTROL
def test_device(engine: Engine) -> None:
    number = os.stat("/dev/loop-control").st_rdev
    script = "stat -c '%t:%T' /dev/mine; : < /dev/mine && echo reads; : > /dev/mine"
    done = engine.docker(
        "run", "--rm", "--device", "/dev/loop-control:/dev/mine:r", "busybox", "sh", "-c", script, check=False
    )
    assert done.stdout == f"{os.major(number):x}:{os.minor(number):x}\nreads\n"
    assert done.returncode == 1 and "Operation not permitted" in done.stderr
    assert stat.S_ISCHR(os.stat("/dev/loop-control").st_mode)


def test_stop_signal_and_timeout(engine: Engine) -> None:
    script = "trap 'exit 9' USR1; echo ready; while :; do sleep 1000 & wait; done"
    id = started(engine, "--stop-signal", "USR1", "--stop-timeout", "50", "busybox", "sh", "-c", script)
    first_line(engine, id)
    engine.docker("stop", id)
    assert inspect(engine, id, "{{.State.ExitCode}}") == 9
    id = started(engine, "--stop-timeout", "0", "busybox", "sleep", "1000")
    engine.docker("stop", id)
    assert inspect(engine, id, "{{.State.ExitCode}}") == 137


def first_line(engine: Engine, id: str) -> str:
    with subprocess.Popen(
        ["docker", "logs", "-f", id], env=engine.environment, stdout=subprocess.PIPE, text=True
    ) as logs:
        assert logs.stdout is not None
        line = logs.stdout.readline()
        logs.terminate()
    return line


def test_restart_on_failure(engine: Engine) -> None:
    id = started(engine, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo tried; exit 5")
    with subprocess.Popen(
        ["docker", "events", "--since", "0", "--filter", f"container={id}", "--filter", "event=die"],
        env=engine.environment, stdout=subprocess.PIPE, text=True,
    ) as events:
        assert events.stdout is not None
        assert all("exitCode=5" in events.stdout.readline() for _ in range(3))
        events.terminate()
    assert inspect(engine, id, "[{{.RestartCount}},{{.State.ExitCode}},{{.State.Running}}]") == [2, 5, False]
    assert engine.docker("logs", id).stdout == "tried\n" * 3
    id = started(engine, "--restart", "on-failure", "busybox", "true")
    assert engine.docker("wait", id).stdout == "0\n"
    assert inspect(engine, id, "{{.RestartCount}}") == 0


WEB = ("sh", "-c", "mkdir /w; echo ahoy > /w/index.html; httpd -p 80 -h /w; echo ready; exec sleep 1000")


def web(engine: Engine, *args: str) -> str:
    id = started(engine, *args, "busybox", *WEB)
    assert first_line(engine, id) == "ready\n"
    return id


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/", timeout=20) as answer:
        return str(answer.read().decode())


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_published_ports(engine: Engine) -> None:
    port = free_port()
    id = web(engine, "-p", f"{port}:80", "-p", "127.0.0.1::80")
    wide, narrow = sorted(engine.docker("port", id, "80").stdout.split())[::-1]
    if not wide.startswith("0.0.0.0"):
        wide, narrow = narrow, wide
    assert wide == f"0.0.0.0:{port}" and narrow.startswith("127.0.0.1:")
    assert fetch(f"127.0.0.1:{port}") == fetch(narrow) == "ahoy\n"
    address = inspect(engine, id, "{{json .NetworkSettings.Gateway}}")  # an address of the host
    assert fetch(f"{address}:{port}") == "ahoy\n"
    with pytest.raises(OSError):
        fetch(f"{address}:{narrow.partition(':')[2]}")
    ports = engine.docker("ps", "--format", "{{.Ports}}").stdout
    assert f"0.0.0.0:{port}->80/tcp" in ports and f"{narrow}->80/tcp" in ports
    engine.docker("stop", "-t", "0", id)
    with pytest.raises(OSError):
        fetch(f"127.0.0.1:{port}")
    assert engine.docker("port", id).stdout == ""


def test_container_reaches_another_by_its_published_port(engine: Engine) -> None:
    id = web(engine, "-p", "80")
    address = inspect(engine, id, "{{json .NetworkSettings}}")
    port = address["Ports"]["80/tcp"][0]["HostPort"]
    for where in ([address["IPAddress"], "80"], [address["Gateway"], port]):
        said = engine.docker("run", "--rm", "-i", "busybox", "nc", "-w", "20", *where, input="GET / HTTP/1.0\r\n\r\n")
        assert said.stdout.endswith("\n\nahoy\n")


def test_publish_all_and_expose(engine: Engine) -> None:
    id = started(engine, "-P", "--expose", "80", "--expose", "53/udp", "busybox", "sleep", "1000")
    ports = dict(line.split(" -> ") for line in engine.docker("port", id).stdout.splitlines())
    assert set(ports) == {"80/tcp", "53/udp"} and all(re.fullmatch(r"0\.0\.0\.0:\d+", it) for it in ports.values())


ECHO = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 53)); print(flush=True);" \
    "d, a = s.recvfrom(99); s.sendto(d[::-1], a)"


def test_published_udp_port(engine: Engine) -> None:
    id = started(engine, "-p", "53/udp", "busybox", "sleep", "1000")
    pid = inspect(engine, id, "{{.State.Pid}}")
    port = int(engine.docker("port", id, "53/udp").stdout.rpartition(":")[2])
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        assert server.stdout is not None and server.stdout.readline() == b"\n"
        client.settimeout(20)
        client.sendto(b"abc", ("127.0.0.1", port))
        assert client.recv(99) == b"cba"

