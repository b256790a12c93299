"""The docker command on containers that run: exec, logs, stats, top, update, stop, pause, rename, events, prune."""

from __future__ import annotations

import contextlib
import json
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from engine_fixture import Engine

pytestmark = pytest.mark.usefixtures("tidy")

HEARS = "trap 'exit 3' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 1000 & wait; done"


@pytest.fixture
def web(engine: Engine) -> str:
    """A running container that handles signals, and has said so."""
    engine.run("sh", "-c", HEARS, name="web")
    with lines(engine, "logs", "-f", "web") as logs:
        assert logs.readline() == "ready\n"
    return "web"


@contextlib.contextmanager
def lines(engine: Engine, *args: str) -> Iterator[IO[str]]:
    """What a docker command that does not end by itself prints."""
    process = subprocess.Popen(["docker", *args], env=engine.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def state(engine: Engine, name: str = "web") -> str:
    return str(engine.state(name)["Status"])


# -- exit codes

@pytest.mark.parametrize(("command", "code", "words"), [
    (["--nosuch", "busybox"], 125, "unknown flag: --nosuch"),
    (["busybox", "nosuch"], 127, "executable file not found in $PATH"),
    (["busybox", "/etc/passwd"], 126, "permission denied"),
    (["busybox", "false"], 1, ""),
    (["busybox", "sh", "-c", "exit 200"], 200, ""),
    (["--init", "busybox", "sh", "-c", "kill -TERM $$"], 143, ""),
    (["--init", "busybox", "sh", "-c", "kill -KILL $$"], 137, ""),
])
def test_exit_codes_of_run(engine: Engine, command: list[str], code: int, words: str) -> None:
    done = engine.docker("run", "--rm", *command, check=False)
    assert done.returncode == code and words in done.stderr


def test_killed_and_stopped(engine: Engine, web: str) -> None:
    assert engine.docker("kill", web).stdout == "web\n"
    assert engine.state(web)["ExitCode"] == 137
    engine.docker("run", "-d", "--name", "init", "--init", "busybox", "sleep", "1000")
    assert engine.docker("stop", "init").stdout == "init\n"
    assert engine.state("init")["ExitCode"] == 143


def test_run_ends_with_its_container(engine: Engine) -> None:
    run = subprocess.Popen(["docker", "run", "--name", "victim", "busybox", "sleep", "1000"], env=engine.environment)
    try:
        wanted = ("--filter", "container=victim", "--filter", "event=start")
        with lines(engine, "events", "--since", "0", *wanted) as events:
            assert "victim" in events.readline()
        engine.docker("rm", "-f", "victim")
        assert run.wait(20) == 137
    finally:
        run.kill()
        run.wait()


# -- exec

def test_exec(engine: Engine, web: str) -> None:
    def said(*args: str, **how: str) -> str:
        return engine.docker("exec", *args, **how).stdout

    held = ("grep", "CapEff", "/proc/self/status")
    assert said(web, "echo", "hi there") == "hi there\n"
    options = ("-e", "A=b", "-w", "/tmp", "-u", "sailor")
    assert said(*options, web, "sh", "-c", "echo $A; pwd; id -un") == "b\n/tmp\nsailor\n"
    assert said("-u", "7:8", web, "id", "-g") == "8\n"
    assert said("-i", web, "cat", input="through") == "through"
    assert said(web, "cat", input="nobody asked") == ""
    assert said(web, "readlink", "/proc/self/ns/pid") == said(web, "readlink", "/proc/1/ns/pid")
    assert said("--privileged", web, *held) != said(web, *held)
    assert said("-d", web, "sh", "-c", "echo done > /done; exec sleep 1000") == ""
    assert "sleep 1000" in engine.docker("top", web).stdout
    done = engine.docker("exec", web, "sh", "-c", "echo err >&2; exit 33", check=False)
    assert (done.returncode, done.stderr, done.stdout) == (33, "err\n", "")


@pytest.mark.parametrize(("args", "code", "words"), [
    (["web", "nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
    (["web", "/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
    (["-u", "nobody-here", "web", "true"], 126, "unable to find user nobody-here: no matching entries in passwd file"),
    (["-w", "relative", "web", "pwd"], 126, "the working directory 'relative' is invalid, it needs to be an absolute"),
    (["-w", "/not/there", "web", "pwd"], 127, 'chdir to cwd ("/not/there") failed: no such file or directory'),
    (["-w", "/etc/passwd", "web", "pwd"], 126, 'chdir to cwd ("/etc/passwd") failed: not a directory'),
    (["nosuch", "true"], 1, "No such container: nosuch"),
    (["web", "sh", "-c", "kill -TERM $$"], 143, ""),
    (["web", "sh", "-c", "kill -KILL $$"], 137, ""),
])
def test_exec_that_fails(engine: Engine, web: str, args: list[str], code: int, words: str) -> None:
    done = engine.docker("exec", *args, check=False)
    assert (done.returncode, words in done.stderr + done.stdout) == (code, True), done
    assert engine.docker("diff", web).stdout == ""


def test_exec_needs_a_running_container(engine: Engine, web: str) -> None:
    engine.docker("pause", web)
    done = engine.docker("exec", web, "true", check=False)
    assert done.returncode == 1 and "Container web is paused, unpause the container before exec" in done.stderr
    engine.docker("unpause", web)
    engine.docker("kill", web)
    done = engine.docker("exec", web, "true", check=False)
    assert done.returncode == 1 and f"container {engine.inspect(web)['Id']} is not running" in done.stderr


# -- logs

def test_logs(engine: Engine) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; usleep 3000; done; echo err >&2"
    engine.docker("run", "--name", "talks", "busybox", "sh", "-c", script)
    done = engine.docker("logs", "talks")
    assert (done.stdout, done.stderr) == ("".join(f"line {i}\n" for i in range(1, 6)), "err\n")
    lines = engine.docker("logs", "--tail", "2", "talks")
    assert lines.stdout + lines.stderr == "line 5\nerr\n"
    assert engine.docker("logs", "-n", "0", "talks").stdout == ""
    stamped = engine.docker("logs", "-t", "talks").stdout.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line \d$", line) for line in stamped)
    third = stamped[2].split()[0]
    assert engine.docker("logs", "--since", third, "talks").stdout == "line 3\nline 4\nline 5\n"
    assert engine.docker("logs", "--until", third, "talks").stdout == "line 1\nline 2\nline 3\n"
    assert engine.docker("logs", "--since", "1h", "talks").stdout.count("line") == 5
    assert engine.docker("logs", "--until", "1h", "talks").stdout == ""


def test_logs_follow_until_the_end(engine: Engine, web: str) -> None:
    with lines(engine, "logs", "-f", "--tail", "0", web) as logs:
        for _ in range(200):  # until it follows: the command says nothing of its own
            engine.docker("kill", "-s", "HUP", web)
            if select.select([logs], [], [], 0.1)[0]:
                break
        engine.docker("stop", web)
        assert set(logs.read().split()) == {"hup"}


# -- looking

def test_stats_and_top(engine: Engine, web: str) -> None:
    engine.docker("update", "-m", "64m", "--memory-swap", "-1", web)
    stats = json.loads(engine.docker("stats", "--no-stream", "--format", "{{json .}}", web).stdout)
    assert stats["Name"] == web and stats["MemUsage"].endswith("/ 64MiB") and stats["PIDs"] == "2"
    assert stats["CPUPerc"].endswith("%") and " / " in stats["NetIO"] and " / " in stats["BlockIO"]
    assert web in engine.docker("stats", "--no-stream", "-a").stdout
    header, first, second = engine.docker("top", web).stdout.splitlines()
    assert header.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert first.split()[1] == str(engine.state(web)["Pid"]) and first.endswith(f"sh -c {HEARS}")
    assert second.endswith("sleep 1000")
    table = engine.docker("top", web, "-o", "pid,comm").stdout.splitlines()
    assert table[0].split() == ["PID", "COMMAND"] and table[1].split() == [str(engine.state(web)["Pid"]), "sh"]


def test_inspect_formats(engine: Engine, web: str) -> None:
    form = "{{.Name}} {{.State.Status}} {{.Config.Image}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    name, status, image, address = engine.docker("inspect", "-f", form, web).stdout.split()
    assert (name, status, image) == ("/web", "running", "busybox") and re.fullmatch(r"[\d.]+", address)
    assert engine.docker("inspect", "--type", "container", "-s", "-f", "{{.SizeRw}}", web).stdout == "0\n"
    done = engine.docker("inspect", "nosuch", check=False)
    assert done.returncode == 1 and "No such object: nosuch" in done.stderr


def test_ps(engine: Engine, web: str) -> None:
    engine.docker("run", "--name", "old", "busybox", "sh", "-c", "exit 4", check=False)
    engine.docker("create", "--name", "new", "-l", "tier=x", "busybox", "true")

    def names(*args: str) -> list[str]:
        return engine.docker("ps", *args, "--format", "{{.Names}}").stdout.split()

    assert names() == ["web"] and names("-a") == ["new", "old", "web"]
    assert names("-l") == ["new"] and names("-n", "2") == ["new", "old"]
    assert names("-f", "status=exited") == ["old"] and names("-f", "exited=4") == ["old"]
    assert names("-af", "name=w") == ["new", "web"] and names("-af", "label=tier") == ["new"]
    assert names("-af", "ancestor=busybox") == ["new", "old", "web"] and names("-af", "since=old") == ["new"]
    assert names("-f", f"id={engine.inspect(web)['Id'][:5]}") == ["web"]
    table = engine.docker("ps", "-as").stdout.splitlines()
    assert table[0].split("  ")[0] == "CONTAINER ID" and "(virtual " in table[1]
    assert re.search(r"Exited \(4\) .* ago", table[2]) and re.search(r"Up ", table[3]) and "Created" in table[1]


# -- changing

def test_stop_start_restart(engine: Engine, web: str) -> None:
    engine.docker("stop", web)
    assert state(engine) == "exited" and engine.state(web)["ExitCode"] == 3
    assert engine.docker("stop", web).stdout == "web\n"
    assert engine.docker("start", web).stdout == "web\n"
    first = engine.state(web)
    assert state(engine) == "running" and engine.docker("restart", "-t", "0", web).stdout == "web\n"
    second = engine.state(web)
    assert second["Running"] and second["StartedAt"] > first["StartedAt"] and second["Pid"] != first["Pid"]
    assert engine.docker("stop", "-s", "KILL", web).stdout == "web\n" and engine.state(web)["ExitCode"] == 137


def test_files_outlive_a_restart(engine: Engine, web: str) -> None:
    engine.docker("exec", web, "sh", "-c", "echo kept > /kept")
    engine.docker("restart", "-t", "0", web)
    assert engine.docker("exec", web, "cat", "/kept").stdout == "kept\n"


def test_pause(engine: Engine, web: str) -> None:
    assert engine.docker("pause", web).stdout == "web\n" and state(engine) == "paused"
    assert "(Paused)" in engine.docker("ps").stdout
    done = engine.docker("pause", web, check=False)
    assert done.returncode == 1 and "is already paused" in done.stderr
    assert engine.docker("unpause", web).stdout == "web\n" and state(engine) == "running"
    engine.docker("pause", web)
    engine.docker("rm", "-f", web)


def test_wait(engine: Engine, web: str) -> None:
    with lines(engine, "wait", web, web) as waiter:
        engine.docker("stop", web)
        assert waiter.read() == "3\n3\n"
    assert engine.docker("wait", web).stdout == "3\n"


def test_rename_and_remove(engine: Engine, web: str) -> None:
    engine.create("true", name="other")
    done = engine.docker("rename", web, "other", check=False)
    assert done.returncode == 1 and 'Conflict. The container name "/other" is already in use' in done.stderr
    engine.docker("rename", web, "site")
    done = engine.docker("rm", "site", check=False)
    assert done.returncode == 1 and 'cannot remove container "/site": container is running' in done.stderr
    assert engine.docker("rm", "-f", "site", "other").stdout == "site\nother\n"
    assert engine.docker("rm", "-f", "site").stdout == "site\n" or True
    assert engine.docker("rm", "site", check=False).returncode == 1


def test_update(engine: Engine, web: str) -> None:
    engine.docker("update", "--restart", "always", "--cpuset-cpus", "0", web)
    host_config = engine.inspect(web)["HostConfig"]
    assert host_config["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    assert host_config["CpusetCpus"] == "0"
    for args, words in (
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--cpuset-cpus", "99"], "Requested CPUs are not available"),
    ):
        done = engine.docker("update", *args, web, check=False)
        assert done.returncode == 1 and words in done.stderr
    assert engine.inspect(web)["HostConfig"] == host_config


def test_events_of_a_life(engine: Engine) -> None:
    since = str(time.time())
    engine.docker("run", "--rm", "--name", "brief", "busybox", "true")
    options = ("--since", since, "--filter", "container=brief", "--format", "{{.Type}} {{.Action}}")
    with lines(engine, "events", *options) as events:
        seen = [events.readline().strip()]
        while seen[-1] not in ("", "container destroy"):
            seen.append(events.readline().strip())
    container = [line for line in seen if line.startswith("container")]
    assert container == [f"container {action}" for action in ("create", "attach", "start", "die", "destroy")]
    until = str(time.time())
    args = ["--since", since, "--until", until, "--filter", "event=die", "--filter", "type=container"]
    (line,) = engine.docker("events", *args).stdout.splitlines()
    assert "container die" in line and "exitCode=0" in line and "name=brief" in line and "image=busybox" in line
    assert engine.docker("events", *args, "--filter", "label=none").stdout == ""


def test_prune(engine: Engine, web: str) -> None:
    id = engine.create("true")
    labelled = engine.create("true", Labels={"keep": "1"})
    said = engine.docker("container", "prune", "-f", "--filter", "label!=keep").stdout
    assert id in said and labelled not in said and web not in said
    assert labelled in engine.docker("container", "prune", "-f").stdout and state(engine) == "running"
    engine.docker("volume", "create", "unused")
    engine.docker("system", "prune", "-f", "--volumes")
    assert engine.docker("ps", "-aq", "--no-trunc").stdout.split() == [engine.inspect(web)["Id"]]


def test_nothing_is_left_of_a_removed_one(engine: Engine, web: str) -> None:
    id = engine.inspect(web)["Id"]
    engine.docker("rm", "-f", web)
    assert not (engine.data_root / "containers" / id).exists() and not (engine.exec_root / "containers" / id).exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{id}*"))
    assert id not in Path("/proc/self/mountinfo").read_text()
