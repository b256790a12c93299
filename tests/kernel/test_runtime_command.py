"""`sampan-runtime` as its callers see it: exit codes, output, the log, what each command does to a real container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended

from sampan.linux import cgroup


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["state", "nope"], 1, "container does not exist"),
    (["state"], 1, '"state" requires exactly 1 argument(s)'),
    (["state", ""], 1, "container id cannot be empty"),
    (["state", "../x"], 1, "invalid container ID format"),
    (["exec", "nope", "ls"], 255, "exec failed: container does not exist"),
    (["exec", "nope"], 255, "exec failed: process args cannot be empty"),
    (["kill", "nope", "KILL"], 1, "container does not exist"),
    (["delete", "nope"], 1, "container does not exist"),
    (["delete", "--force", "nope"], 0, ""),
    (["bogus"], 3, "No help topic for 'bogus'"),
    (["help", "bogus"], 3, "No help topic for 'bogus'"),
    (["create", ".seccomp"], 1, "config.json not found"),
    (["state", ".seccomp"], 1, "the runtime's own directory"),
    (["delete", "--force", ".seccomp"], 1, "the runtime's own directory"),
    (["list", "--bogus"], 1, "flag provided but not defined: -bogus"),
    (["list", "--format", "xml"], 1, "invalid format option"),
    (["--log-format", "xml", "list"], 1, "invalid log-format: xml"),
    (["create", "--bundle", "/nonexistent", "x"], 1, "create failed: chdir /nonexistent: no such file or directory"),
    (["create", "--bundle", "/proc", "x"], 1, "config.json not found"),
    (["events", "--interval", "0", "x"], 1, "duration interval must be greater than 0"),
    (["checkpoint", "x"], 1, "not supported"),
    (["create", "--preserve-fds", "5", "x"], 1, "unable to stat preserved-fd"),
])
def test_what_goes_wrong_has_runcs_words_and_code(boat: Dock, arguments: list[str], code: int, words: str) -> None:
    done = boat.call(*arguments)
    assert (done.returncode, words in done.stderr.replace('\\"', '"')) == (code, True), done.stderr
    assert done.stderr == "" or done.stderr.startswith('time="')


def test_the_version_is_in_the_form_engines_read(boat: Dock) -> None:
    name, version, *_ = boat.ok("--version").splitlines()[0].rsplit(" ", 2)
    assert (name, version) == ("sampan-runtime", "version")
    assert "\nspec: 1.2" in boat.ok("-v")


def test_help_costs_nothing_and_names_everything(boat: Dock) -> None:
    assert "update" in boat.ok("--help") and "--root value" in boat.ok()
    assert "--pid-file value" in boat.ok("create", "-h") == boat.ok("help", "create")


def test_the_exit_code_of_run_is_the_programs(boat: Dock) -> None:
    assert boat.run("sh", "-c", "exit 7").returncode == 7
    assert boat.run("sh", "-c", "kill -9 $$; sleep 9", options=["--no-pivot"]).returncode in (0, 137)
    assert os.listdir(boat.states) == []


def test_run_passes_streams_on(boat: Dock) -> None:
    done = boat.run("sh", "-c", "cat; echo no >&2", stdin=None, input="hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "no\n")


def test_keep_leaves_a_stopped_container(boat: Dock) -> None:
    assert boat.run("true", options=["--keep"]).returncode == 0
    assert boat.state()["status"] == "stopped"
    assert "stopped" in boat.ok("list") and boat.ok("list", "-q") == "boat\n"


def test_signals_to_run_reach_the_program(boat: Dock) -> None:
    script = "trap 'exit 42' USR1; echo ready; while :; do sleep 1000 & wait; done"
    boat.config["process"]["args"] = ["sh", "-c", script]
    boat.write()
    command = boat.command("run", "--bundle", str(boat.directory), boat.name)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(PATIENCE) == 42
    assert os.listdir(boat.states) == []


def test_detached_it_runs_on(boat: Dock) -> None:
    with (boat.directory / "out").open("w") as out:
        pid_file = boat.directory / "pid"
        done = boat.run("sleep", "1000", options=["-d", "--pid-file", str(pid_file)], stdout=out, stderr=out)
    assert done.returncode == 0 and boat.state()["status"] == "running"
    assert int(pid_file.read_text()) == boat.pid()


@pytest.mark.parametrize("detach", [["--detach"], []])
def test_paths_on_the_command_line_are_the_callers(boat: Dock, detach: list[str]) -> None:
    """Not the bundle's, though the runtime enters it."""
    caller = boat.directory / "caller"
    caller.mkdir()
    boat.write()
    command = [*boat.program, "--root", "states", "run", *detach, "--keep", "--pid-file", "pid", "--bundle", ".."]
    with (caller / "out").open("w") as out:
        done = subprocess.run([*command, boat.name], cwd=caller, stdout=out, stderr=out, timeout=60, check=False)
    assert done.returncode == 0, (caller / "out").read_text()
    assert int((caller / "pid").read_text()) > 1
    assert os.listdir(caller / "states") == [boat.name]
    subprocess.run([*boat.program, "--root", "states", "delete", "--force", boat.name], cwd=caller, check=True)


def test_a_frozen_group_is_refused(boat: Dock) -> None:
    """Somebody froze it ahead: the init stage would stop in the middle."""
    host = cgroup.detect().without_v2()
    group = cgroup.Group.create(host, boat.config["linux"]["cgroupsPath"])
    try:
        group.freeze()
        done = boat.run("true")
        assert (done.returncode, "container's cgroup unexpectedly frozen" in done.stderr) == (1, True), done.stderr
        assert group.frozen()
        group.thaw()
    finally:
        group.remove()
    assert boat.run("true").returncode == 0


def test_run_of_a_program_that_is_not_there_leaves_nothing(boat: Dock) -> None:
    done = boat.run("nonexistent")
    assert done.returncode == 1 and "executable file not found in $PATH" in done.stderr
    assert os.listdir(boat.states) == []


def test_the_orphans_of_a_shared_pid_namespace_come_to_run(boat: Dock) -> None:
    namespaces = boat.config["linux"]["namespaces"]
    boat.config["linux"]["namespaces"] = [each for each in namespaces if each["type"] != "pid"]
    done = boat.run("sh", "-c", "sh -c 'sleep 0.05 & echo $! >/child' & wait")
    assert done.returncode == 0, done.stderr
    ended(int((boat.root / "child").read_text()))


def test_exec_as_its_flags_say(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    done = boat.exec("sh", "-c", "echo $A; id -u; id -g; pwd", options=["-e", "A=b", "-u", "5:6", "--cwd", "/bin"])
    assert (done.returncode, done.stdout) == (0, "b\n5\n6\n/bin\n"), done.stderr
    assert boat.exec("sh", "-c", "exit 9").returncode == 9
    assert boat.exec("sh", "-c", "kill -9 $$").returncode == 137
    missing = boat.exec("nonexistent")
    assert missing.returncode == 255 and "executable file not found" in missing.stderr
    process = boat.directory / "process.json"
    document = {"args": ["id", "-u"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 3, "gid": 4}}
    process.write_text(json.dumps(document))
    assert boat.exec(options=["--process", str(process)]).stdout == "3\n"


def test_exec_capabilities_and_new_privileges(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    read = ["sh", "-c", "while read line; do echo $line; done < /proc/self/status"]
    lines = boat.exec(*read, options=["--cap", "CAP_SYS_TIME", "--no-new-privs=false"]).stdout.splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    assert int(found["CapEff"], 16) & 1 << 25 and int(found["CapBnd"], 16) & 1 << 25
    assert found["NoNewPrivs"].strip() == "0"


def test_exec_in_a_group_below_the_containers(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    found = json.loads((boat.states / boat.name / "state.json").read_text())["cgroups"]
    below = {Path(directory, "below") for directory in found.values()}
    read = ["sh", "-c", "while read line; do echo $line; done < /proc/self/cgroup"]
    missing = boat.exec(*read, options=["--cgroup", "below"]).stderr
    assert " adding pid " in missing and "/below/cgroup.procs: no such file or directory" in missing
    assert " ../x is not a sub cgroup path" in boat.exec(*read, options=["--cgroup", "../x"]).stderr
    assert "unknown controller bogus" in boat.exec(*read, options=["--cgroup", "bogus:x"]).stderr
    for directory in sorted(below):
        directory.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (directory / name).exists():
                (directory / name).write_text((directory.parent / name).read_text())
    lines = boat.exec(*read, options=["--cgroup", "below"]).stdout.splitlines()
    assert sum(line.endswith("/below") for line in lines) >= 1
    if "pids" in found:
        lines = boat.exec(*read, options=["--cgroup", "pids:below"]).stdout.splitlines()
        assert [line.split(":")[1] for line in lines if line.endswith("/below")] == ["pids"]


def test_sockets_of_systemd_reach_the_program(boat: Dock) -> None:
    """sd_listen_fds(3): from descriptor 3 on, the environment tells; what --preserve-fds adds follows."""
    reads = "echo $LISTEN_FDS $LISTEN_PID; for fd in 3 4; do readlink /proc/self/fd/$fd; done"
    boat.config["process"]["args"] = ["sh", "-c", reads]
    boat.write()
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3</dev/null 4</dev/zero'
    run = boat.command("run", "--preserve-fds=1", "--bundle", str(boat.directory), boat.name)
    done = subprocess.run(["sh", "-c", script, "sh", *run], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1 1\n/dev/null\n/dev/zero\n"), done.stderr


def test_debug_messages_say_what_was_done(boat: Dock) -> None:
    log = boat.directory / "log"
    boat.program = (*boat.program, "--debug", "--log", str(log))
    assert boat.run("true").returncode == 0
    assert "level=debug" in log.read_text() and "pivot_root" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "Traceback" in boat.call("state", "nope").stderr + log.read_text()
    boat.launch("sleep", "1000")
    log.write_text("")
    assert boat.exec("true").returncode == 0
    assert "level=debug" in log.read_text() and "join the container's namespaces" in log.read_text()


def test_a_detached_exec_is_in_the_pid_file_and_in_ps(boat: Dock) -> None:
    first = boat.launch("sleep", "1000")
    with (boat.directory / "out").open("w") as out:
        pid_file = boat.directory / "exec.pid"
        done = boat.exec("sleep", "999", options=["-d", "--pid-file", str(pid_file)], stdout=out, stderr=out)
    assert done.returncode == 0
    second = int(pid_file.read_text())
    assert json.loads(boat.ok("ps", "--format", "json", boat.name)) == sorted([first, second])
    table = boat.ok("ps", boat.name, "-e", "-o", "pid,args").splitlines()
    assert [line.split()[1:] for line in table[1:]] == [["sleep", "1000"], ["sleep", "999"]]
    assert "couldn't find PID field" in boat.call("ps", boat.name, "-o", "comm").stderr


def test_pause_and_resume(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    assert "container not paused" in boat.call("resume", boat.name).stderr
    boat.ok("pause", boat.name)
    assert boat.state()["status"] == "paused"
    assert "container not running" in boat.call("pause", boat.name).stderr
    refused = boat.exec("true")
    assert refused.returncode == 255 and "cannot exec in a paused container (use --ignore-paused" in refused.stderr
    boat.ok("resume", boat.name)
    assert boat.exec("true").returncode == 0
    boat.ok("pause", boat.name)
    pid = boat.pid()
    boat.ok("kill", boat.name, "KILL")
    ended(pid)


def test_kill_by_name_number_and_all(boat: Dock) -> None:
    pid = boat.launch("sh", "-c", "trap '' TERM; sleep 1000")
    boat.ok("kill", boat.name)  # TERM, which it ignores
    assert 'unknown signal \\"XX\\"' in boat.call("kill", boat.name, "XX").stderr
    boat.ok("kill", "--all", boat.name, "9")
    ended(pid)
    assert "container not running" in boat.call("kill", boat.name, "SIGKILL").stderr


def test_update_changes_what_it_names(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    boat.ok("update", "--memory", "64m", boat.name)
    boat.ok("update", "--pids-limit", "50", boat.name)
    resources = json.dumps({"cpu": {"shares": 512}})
    boat.ok("update", "--resources", "-", boat.name, stdin=None, input=resources)
    kept = json.loads((boat.states / boat.name / "config.json").read_text())["linux"]["resources"]
    assert (kept["memory"]["limit"], kept["pids"]["limit"], kept["cpu"]["shares"]) == (64 << 20, 50, 512)
    stats = json.loads(boat.ok("events", "--stats", boat.name))["data"]
    assert stats["memory"]["usage"]["limit"] == 64 << 20 and stats["pids"] == {"current": 1, "limit": 50}
    for arguments, words in (
        (["--memory", "xx"], "invalid value for memory: invalid size: 'xx'"),
        (["--cpu-period", "x"], "invalid value for cpu-period"),
        (["--memory", "4k"], "unable to set memory limit to 4096"),
        (["--l3-cache-schema", "L3:0=f"], "Intel RDT/CAT: l3 cache schema is not enabled"),
        (["--resources", "/nonexistent"], "/nonexistent: no such file or directory"),
    ):
        refused = boat.call("update", *arguments, boat.name)
        assert refused.returncode == 1 and words in refused.stderr, (arguments, refused.stderr)
    assert json.loads(boat.ok("events", "--stats", boat.name))["data"]["memory"]["usage"]["limit"] == 64 << 20


def test_an_update_that_fails_half_way_is_taken_back(boat: Dock) -> None:
    """What was set goes back to the spec's limit, what was not to none; the last of the parts is what fails."""
    boat.config["linux"]["resources"] = {"memory": {"limit": 128 << 20}}
    boat.launch("sleep", "1000")
    before = limits(boat)
    wanted = {
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20}, "pids": {"limit": 50},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "cpus": "0"},
        "blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 77, "rate": 1 << 20}]},
    }
    refused = boat.call("update", "-r", "-", boat.name, stdin=None, input=json.dumps(wanted))
    assert refused.returncode == 1 and "4000:77" in refused.stderr
    assert limits(boat) == before
    del wanted["blockIO"]
    boat.ok("update", "-r", "-", boat.name, stdin=None, input=json.dumps(wanted))
    changed = limits(boat)
    assert all(changed[name] != before[name] for name in before)


def test_v2s_own_files_are_taken_back_too(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    directory = json.loads((boat.states / boat.name / "state.json").read_text())["cgroups"].get("unified", "")
    if not Path(directory, "memory.low").exists():
        pytest.skip("needs cgroup v2 alone")
    boat.ok("update", "-r", "-", boat.name, stdin=None, input='{"unified": {"memory.high": "80000000"}}')
    wanted = {"memory": {"reservation": 8 << 20}, "unified": {"memory.high": "60000000", "memory.nothing": "1"}}
    names = ("memory.low", "memory.high")
    before = [Path(directory, name).read_text() for name in names]
    refused = boat.call("update", "-r", "-", boat.name, stdin=None, input=json.dumps(wanted))
    assert refused.returncode == 1 and "memory.nothing does not exist" in refused.stderr
    assert [Path(directory, name).read_text() for name in names] == before


def test_zeros_of_an_update_are_no_limits_of_before(boat: Dock) -> None:
    """dockerd sends all members of what it updates, 0 for those that stay; then a later one fails."""
    boat.config["linux"]["resources"] = {"memory": {"limit": 128 << 20}, "pids": {"limit": 40}, "cpu": {"shares": 512}}
    boat.launch("sleep", "1000")
    before = limits(boat)
    zeros = {"memory": {"limit": 0, "reservation": 0, "swap": 0}, "pids": {"limit": 0}, "cpu": {"shares": 0},
             "blockIO": {"weight": 0}}
    boat.ok("update", "-r", "-", boat.name, stdin=None, input=json.dumps(zeros))
    kept = json.loads((boat.states / boat.name / "config.json").read_text())["linux"]["resources"]
    assert (kept["memory"]["limit"], kept["pids"]["limit"], kept["cpu"]["shares"]) == (128 << 20, 40, 512)
    bad = {**zeros, "blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 77, "rate": 1 << 20}]}}
    assert boat.call("update", "-r", "-", boat.name, stdin=None, input=json.dumps(bad)).returncode == 1
    assert limits(boat) == before


def test_what_is_idle_no_longer_has_its_shares_again(boat: Dock) -> None:
    boat.config["linux"]["resources"] = {"cpu": {"shares": 512}}
    boat.launch("sleep", "1000")
    before = limits(boat)
    boat.ok("update", "--cpu-idle", "1", boat.name)
    assert limits(boat) != before
    boat.ok("update", "--cpu-idle", "0", boat.name)
    assert limits(boat) == before


def limits(boat: Dock) -> dict[str, str]:
    """The files that the update above writes, as they are."""
    names = (
        "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.max",
        "memory.swap.max", "cpu.shares", "cpu.weight", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max",
        "cpuset.cpus", "pids.max",
    )
    directories = json.loads((boat.states / boat.name / "state.json").read_text())["cgroups"].values()
    found = {Path(directory) / name for directory in directories for name in names}
    return {path.name: path.read_text() for path in found if path.exists()}


def test_events_end_with_the_container_and_tell_of_lost_memory(boat: Dock) -> None:
    boat.config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    pid = boat.launch("sleep", "1000")
    with subprocess.Popen(
        boat.command("events", "--interval", "20ms", boat.name), stdout=subprocess.PIPE, env=dict(os.environ), text=True
    ) as events:
        assert events.stdout is not None
        first = json.loads(events.stdout.readline())
        assert (first["type"], first["id"], first["data"]["pids"]["current"]) == ("stats", boat.name, 1)
        boat.exec("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
        kinds = iter(lambda: json.loads(events.stdout.readline())["type"], "oom")  # type: ignore[union-attr]
        assert set(kinds) <= {"stats"}
        os.kill(pid, signal.SIGKILL)
        assert all(json.loads(line) for line in events.stdout)
        assert events.wait(PATIENCE) == 0
    assert "is not running" in boat.call("events", "--stats", boat.name).stderr


def test_spec_writes_what_run_takes(boat: Dock) -> None:
    boat.ok("spec", "--bundle", str(boat.directory))
    written = json.loads((boat.directory / "config.json").read_text())
    assert "File config.json exists" in boat.call("spec", "-b", str(boat.directory)).stderr
    (boat.directory / "rootfs").symlink_to("root")
    written["process"] |= {"args": ["true"], "terminal": False}
    written["linux"]["cgroupsPath"] = boat.config["linux"]["cgroupsPath"]
    boat.config = written
    done = boat.run()
    assert done.returncode == 0, done.stderr


def test_features_is_json(boat: Dock) -> None:
    found = json.loads(boat.ok("features"))
    assert found["ociVersionMin"].startswith("1.0") and "createRuntime" in found["hooks"]


def test_state_and_list_show_annotations(boat: Dock) -> None:
    boat.config["annotations"] = {"key": "välue"}
    boat.create("sleep", "1000")
    assert boat.state()["annotations"] == {"key": "välue"}
    (listed,) = json.loads(boat.ok("list", "--format", "json"))
    assert listed["annotations"] == {"key": "välue"} and listed["owner"] == "root"


def test_a_damaged_record_does_not_hide_the_others(boat: Dock) -> None:
    boat.create("sleep", "1000")
    broken = boat.states / "broken"
    broken.mkdir()
    (broken / "state.json").write_text("{")
    done = boat.call("list")
    assert done.returncode == 0 and "boat" in done.stdout and "level=warning" in done.stderr
    refused = boat.call("state", "broken")
    assert refused.returncode == 1 and "is damaged" in refused.stderr
    (broken / "state.json").unlink()


def test_unknown_members_and_wrong_types_in_json_are_told(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    boat.ok("update", "-r", "-", boat.name, stdin=None, input='{"bogus": 1, "memory": {"limit": 67108864}}')
    for text, words in (("{", "the resources"), ('{"memory": 5}', "$.memory"), ('{"memory": {"limit": "x"}}', "limit")):
        refused = boat.call("update", "-r", "-", boat.name, stdin=None, input=text)
        assert refused.returncode == 1 and words in refused.stderr, refused.stderr
    process = boat.directory / "process.json"
    for text, words in (("{", "the process"), ('{"args": "x"}', "$.args"), ("{}", "")):
        process.write_text(text)
        refused = boat.call("exec", "-p", str(process), boat.name)
        assert refused.returncode == 255 and words in refused.stderr, refused.stderr
        assert "internal error" not in refused.stderr


def test_only_one_of_many_creates_gets_the_id(boat: Dock) -> None:
    boat.config["process"]["args"] = ["sleep", "1000"]
    boat.write()
    command = boat.command("create", "--bundle", str(boat.directory), boat.name)
    with (boat.directory / "out").open("w+") as out:
        calls = [subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL) for _ in range(6)]
        codes = sorted(call.wait(PATIENCE) for call in calls)
        out.seek(0)
        assert (codes, out.read().count("already exists")) == ([0, 1, 1, 1, 1, 1], 5)


def test_only_one_of_many_starts_starts(boat: Dock) -> None:
    boat.create("sh", "-c", "echo x >> /started; sleep 1000")
    calls = [
        subprocess.Popen(boat.command("start", boat.name), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        for _ in range(6)
    ]
    said = [call.communicate(timeout=PATIENCE)[1] for call in calls]
    assert sorted(call.returncode for call in calls) == [0, 1, 1, 1, 1, 1]
    assert sum("already running" in text for text in said) == 5
    boat.ok("exec", boat.name, "sh", "-c", "while [ ! -s /started ]; do :; done")
    assert (boat.root / "started").read_text() == "x\n"


def test_deletes_at_once_do_no_harm(boat: Dock) -> None:
    boat.launch("sleep", "1000")
    calls = [
        subprocess.Popen(boat.command("delete", "--force", boat.name), stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    said = [(call.communicate(timeout=PATIENCE)[1], call.returncode) for call in calls]
    assert all(code == 0 for _, code in said), said
    assert os.listdir(boat.states) == []
