"""`sampan-runtime`: what config.json says about the process and the kernel, seen from inside the container."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, map_ids, one_clear_line
from tests.seccomp_fixture import Agent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NR_GETPPID, NR_UNAME = 110, 63


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


def said(boat: Dock, script: str) -> list[str]:
    done = boat.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return str(done.stdout).splitlines()


def test_limits_user_and_umask(boat: Dock) -> None:
    process = boat.config["process"]
    process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27, "username": "root"}
    process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]
    process["oomScoreAdj"] = 500
    assert said(boat, "id -u; id -g; id -G; umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj") == [
        "1000", "1001", "1001 5 6", "0027", "100", "200", "500",
    ]


def test_scheduling(boat: Dock) -> None:
    process = boat.config["process"]
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 4}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    boat.config["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    assert said(boat, "grep ^policy /proc/self/sched; cut -d' ' -f19 /proc/self/stat; ionice; "
                "grep -q bind=static:0 /proc/self/numa_maps && echo bound") == [
        "policy                                       :                    3", "4", "best-effort: prio 6", "bound",
    ]


def test_personality(boat: Dock) -> None:
    boat.config["linux"]["personality"] = {"domain": "LINUX32"}
    assert said(boat, "uname -m") == ["i686"]


def test_affinity_is_not_the_runtimes(boat: Dock) -> None:
    """`taskset 1 docker run` must not confine the container for ever."""
    boat.config["process"]["args"] = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    boat.write()
    one = str(min(os.sched_getaffinity(0)))
    every = Path("/proc/self/status").read_text().partition("Cpus_allowed_list:\t")[2].splitlines()[0]
    done = subprocess.run(
        ["taskset", "-c", one, *boat.command("run", "--bundle", str(boat.directory), "boat")],
        check=True, capture_output=True, text=True,
    )
    assert done.stdout.split() == ["Cpus_allowed_list:", every]


def test_affinity_of_exec(boat: Dock) -> None:
    """Of exec alone: the container's own program has all CPUs of its cgroup (config.md, "Linux Process")."""
    last = str(max(os.sched_getaffinity(0)))
    boat.config["process"]["execCPUAffinity"] = {"initial": "0", "final": last}
    pid = boat.launch("sleep", "1000")
    assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
    done = boat.exec("grep", "Cpus_allowed_list", "/proc/self/status")
    assert done.stdout.split() == ["Cpus_allowed_list:", last]
    process = boat.directory / "process.json"
    for affinity, cpus in ({}, {int(last)}), ({"execCPUAffinity": {"final": "0"}}, {0}):
        process.write_text(json.dumps({"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], **affinity}))
        boat.exec(options=["--detach", "--process", str(process), "--pid-file", str(boat.directory / "pid")],
                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert os.sched_getaffinity(int((boat.directory / "pid").read_text())) == cpus


def test_kernel_settings(boat: Dock) -> None:
    boat.config["domainname"] = "harbour"
    boat.config["linux"]["sysctl"] = {
        "net.ipv4.ip_forward": "1", "kernel/shm_rmid_forced": "1", "fs.mqueue.queues_max": "77",
    }
    assert said(boat, "hostname; cd /proc/sys; cat kernel/domainname net/ipv4/ip_forward kernel/shm_rmid_forced "
                "fs/mqueue/queues_max") == ["boat", "harbour", "1", "1", "77"]


def test_a_session_keyring(boat: Dock) -> None:
    boat.config["linux"]["maskedPaths"] = []
    names = [line.split()[8] for line in said(boat, "cat /proc/keys") if "keyring" in line]
    assert "_ses.boat:" in names


def test_capabilities(boat: Dock) -> None:
    sets = boat.config["process"]["capabilities"]
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        sets[kind] = ["CAP_KILL", "CAP_CHOWN", "CAP_FLY"]
    boat.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    done = boat.run("grep", "^Cap", "/proc/self/status")
    assert done.stdout.split()[1::2] == [f"{0x21:016x}"] * 5
    assert "CAP_FLY" in done.stderr


def test_network_devices_move(boat: Dock) -> None:
    for command in (
        "link add sampan-d0 type veth peer sampan-d1", "address add 203.0.113.9/24 dev sampan-d0",
        "address add 2001:db8::9/64 dev sampan-d0 nodad", "link set sampan-d0 mtu 1400",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    try:
        boat.config["linux"]["netDevices"] = {"sampan-d0": {"name": "eth7"}}
        seen = "\n".join(said(boat, "ip addr show eth7"))
    finally:
        subprocess.run(["ip", "link", "delete", "sampan-d0"], check=False, capture_output=True)
    assert "UP" in seen and "mtu 1400" in seen
    assert "inet 203.0.113.9/24" in seen and "inet6 2001:db8::9/64" in seen


@pytest.mark.parametrize("second", [{"none0": {}}, {"lo": {}}])
def test_no_network_device_is_lost_to_a_container_that_cannot_be(boat: Dock, second: dict[str, object]) -> None:
    """One that has moved ends with the container's namespace: all are looked at before the first goes."""
    for command in ("link add sampan-d0 type veth peer sampan-d1", "link set sampan-d0 up"):
        subprocess.run(["ip", *command.split()], check=True)
    try:
        boat.config["linux"]["netDevices"] = {"sampan-d0": {"name": "eth7"}, **second}
        assert "network device" in one_clear_line(boat.run("true").stderr)
        seen = subprocess.run(["ip", "link", "show", "sampan-d0"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["ip", "link", "delete", "sampan-d0"], check=False, capture_output=True)
    assert ",UP" in seen


@pytest.mark.parametrize(("member", "value", "words"), [
    ("process", {"apparmorProfile": "docker-default"}, "apparmor"),
    ("process", {"selinuxLabel": "a:b:c:d"}, "selinux"),
    ("process", {"rlimits": [{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}]}, "invalid rlimit type"),
    ("linux", {"mountLabel": "a:b:c:d"}, "selinux"),
    ("linux", {"sysctl": {"kernel.core_pattern": "x"}}, "not in a separate kernel namespace"),
    ("linux", {"sysctl": {"kernel.shm_rmid_forced+kernel.core_pattern": "x"}}, "not the name of a sysctl"),
    ("linux", {"intelRdt": {"closID": "x"}}, "Intel RDT"),
    ("linux", {"netDevices": {"none0": {}}}, "none0"),
    ("linux", {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY"}}, "default action"),
])
def test_what_cannot_be_had_is_one_clear_error(boat: Dock, member: str, value: dict[str, object], words: str) -> None:
    boat.config[member].update(value)
    done = boat.run("true")
    assert done.returncode == 1
    assert words in one_clear_line(done.stderr)
    assert boat.ok("list", "--quiet") == ""


def notify(boat: Dock, agent: Path, *names: str) -> None:
    boat.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "listenerPath": str(agent),
        "listenerMetadata": "from the test", "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
    }


@pytest.mark.parametrize("new_privileges", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_seccomp_agent_answers_a_container_and_its_execs(boat: Dock, new_privileges: bool, mapped: bool) -> None:
    boat.config["process"]["noNewPrivileges"] = not new_privileges
    if mapped:
        map_ids(boat)
    agent = Agent(str(boat.directory / "agent.sock"))
    notify(boat, boat.directory / "agent.sock", "getppid", "uname")
    try:
        script = "while uname -s | grep -q .; do sleep 100; done"
        boat.create("sh", "-c", script)
        starting = subprocess.Popen(boat.command("start", "boat"))
        told = agent.accept()
        assert told["fds"] == ["seccompFd"] and told["metadata"] == "from the test" and told["pid"] == boat.pid()
        state = told["state"]
        assert isinstance(state, dict) and state["id"] == "boat" and state["bundle"] == str(boat.directory)
        while agent.answer(flags=1)[1] != NR_UNAME:  # the program runs
            pass
        assert starting.wait(60) == 0
        first, agent.fd = agent.fd, -1
        joining = subprocess.Popen(boat.command("exec", "boat", "sh", "-c", "exit $PPID"), stdout=subprocess.DEVNULL)
        told = agent.accept()
        state = told["state"]
        assert isinstance(state, dict) and state["status"] == "running" and told["pid"] != boat.pid()
        assert NR_GETPPID in agent.serve(42)
        assert joining.wait(60) == 42
        os.close(first)
    finally:
        agent.close()


def test_an_agent_that_is_not_there_is_one_clear_error(boat: Dock) -> None:
    notify(boat, boat.directory / "none.sock", "getppid")
    done = boat.run("true")
    assert done.returncode == 1
    assert "seccomp agent" in one_clear_line(done.stderr) and "none.sock" in done.stderr
    assert boat.ok("list", "--quiet") == ""


def test_compiled_filters_are_kept_with_the_state(boat: Dock) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    boat.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [rule],
    }
    for _ in range(2):
        assert said(boat, "mkdir /x 2>/dev/null || grep Seccomp: /proc/self/status") == ["Seccomp:\t2"]
    (kept,) = (boat.states / ".seccomp").iterdir()
    kept.write_bytes(b"")  # torn by a crash
    assert said(boat, "mkdir /x 2>/dev/null || echo refused") == ["refused"]
    assert boat.ok("list", "--quiet") == ""


def test_all_of_it_in_a_user_namespace(boat: Dock) -> None:
    """Root inside is nobody outside: what it may not set is a warning, what is its own it may."""
    map_ids(boat)
    process, linux = boat.config["process"], boat.config["linux"]
    process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5]}
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    process["oomScoreAdj"] = 300
    process["scheduler"] = {"policy": "SCHED_IDLE"}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    sets = process["capabilities"]
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        sets[kind] = ["CAP_SYS_RESOURCE"]  # which this host may not even have: in the namespace it is ours to give
    linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"}
    linux["memoryPolicy"] = {"mode": "MPOL_LOCAL"}
    linux["personality"] = {"domain": "LINUX32"}
    assert said(boat, "id -u; id -G; ulimit -Hn; cat /proc/self/oom_score_adj; grep CapEff /proc/self/status; "
                "grep ^policy /proc/self/sched; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced; "
                "uname -m") == [
        "1000", "1001 5", "200", "300", f"CapEff:\t{1 << 24:016x}",
        "policy                                       :                    5", "1", "1", "i686",
    ]


def test_an_unknown_capability_is_a_warning_of_exec_too(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    done = boat.exec("true", options=["--cap", "CAP_FLY"])
    assert done.returncode == 0 and "CAP_FLY" in done.stderr
