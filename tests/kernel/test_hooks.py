"""Hooks: what they get, what their failure means, and that none can hold up or flood the runtime."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime_fixture import PATIENCE, Dock, dock, ended

from sampan.errors import InvalidArgument, StartFailed
from sampan.oci import runtime as oci
from sampan.runtime.lifecycle import hooks

STATE: dict[str, object] = {"ociVersion": "1.2.0", "id": "boat", "status": "creating", "pid": 7, "bundle": "/b"}
SH = "/bin/sh"


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


def script(text: str, **members: Any) -> oci.Hook:
    return oci.Hook(path=SH, args=["sh", "-c", text], **members)


def run(*wanted: oci.Hook, where: str = "prestart") -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    try:
        hooks.run(wanted, STATE, where)
    finally:
        assert sorted(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"


def test_the_state_is_on_stdin(tmp_path: Path) -> None:
    run(script(f"cat > {tmp_path}/state"))
    assert json.loads((tmp_path / "state").read_text()) == STATE


def test_arguments_and_environment_are_the_hooks_own_cve_2025_23266(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the runtime's nor a container's: an LD_PRELOAD that a hook inherits runs with the runtime's rights."""
    monkeypatch.setenv("LD_PRELOAD_TEST", "ours")
    env = f"/proc/self/environ > {tmp_path}/env; tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/args"
    run(oci.Hook(path=SH, args=["zeroth", "-c", f"/bin/cat {env}", "x"], env=["A=1", "B=x=y"]))
    found = dict(entry.split("=", 1) for entry in (tmp_path / "env").read_text().strip("\0").split("\0"))
    found.pop("PWD", None)  # the shell's own
    assert found == {"A": "1", "B": "x=y"}
    assert (tmp_path / "args").read_text().startswith("zeroth -c")


def test_no_environment_is_none(tmp_path: Path) -> None:
    run(oci.Hook(path="/usr/bin/env", args=["env"]), script(f"cat /proc/self/environ > {tmp_path}/env"))
    assert b"PATH=" not in (tmp_path / "env").read_bytes()


def test_no_descriptor_but_stdio_is_inherited(tmp_path: Path) -> None:
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        run(script(f"exec ls /proc/self/fd > {tmp_path}/fds"))
    finally:
        os.close(leaked)
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]  # the last one is what ls reads


def test_they_run_in_order_and_the_first_failure_ends_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(StartFailed, match=r"error running prestart hook #1 \(/bin/sh\): exit status 3"):
        run(script(f"echo one >> {log}"), script(f"echo two >> {log}; exit 3"), script(f"echo three >> {log}"))
    assert log.read_text() == "one\ntwo\n"


def test_the_message_quotes_what_a_failing_hook_wrote() -> None:
    with pytest.raises(StartFailed, match=r"exit status 1, stdout: out, stderr: first; second"):
        run(script("echo out; echo first >&2; echo second >&2; exit 1"))


def test_a_hook_that_a_signal_ends_has_failed() -> None:
    with pytest.raises(StartFailed, match="killed by signal 9"):
        run(script("kill -9 $$"))


def test_what_a_hook_writes_is_bounded() -> None:
    with pytest.raises(StartFailed) as caught:
        run(script("head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2; exit 1"))
    assert len(str(caught.value)) < 2 * hooks.MAX_OUTPUT + 200


def test_a_hook_that_never_reads_its_state_holds_up_nothing() -> None:
    hooks.run([script("exit 0")], {**STATE, "annotations": {"x": "y" * (1 << 20)}}, "prestart")


def test_a_long_state_arrives_whole(tmp_path: Path) -> None:
    hooks.run([script(f"wc -c > {tmp_path}/size")], {"annotations": {"x": "y" * (1 << 20)}}, "prestart")
    assert int((tmp_path / "size").read_text()) > 1 << 20


def test_a_timeout_kills_the_hook_and_what_it_started(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(StartFailed, match="hook ran past specified timeout of 1s, stdout: begun"):
        run(script(f"echo begun; sleep 1000 & echo $! > {tmp_path}/child; wait", timeout=1))
    assert 1 <= time.monotonic() - begin < 20
    ended(int((tmp_path / "child").read_text()))


def test_a_hook_that_writes_without_end_is_late_as_well() -> None:
    with pytest.raises(StartFailed, match="timeout"):
        run(script("while :; do echo flood; done", timeout=1))


def test_a_child_that_keeps_the_pipes_open_holds_up_nothing(tmp_path: Path) -> None:
    run(script(f"sleep 1000 & echo $! > {tmp_path}/child"))
    child = int((tmp_path / "child").read_text())
    os.kill(child, 9)
    ended(child)


@pytest.mark.parametrize(("hook", "words"), [
    (oci.Hook(path="relative/sh"), "path is not absolute"),
    (oci.Hook(path=""), "path is not absolute"),
    (oci.Hook(path=SH, timeout=0), "timeout 0 is not greater than zero"),
    (oci.Hook(path=SH, timeout=-5), "timeout -5 is not greater than zero"),
    (oci.Hook(path=SH, env=["=x"]), "not NAME=value"),
    (oci.Hook(path=SH, env=["x"]), "not NAME=value"),
    (oci.Hook(path=SH, args=["a\0b"]), "NUL"),
])
def test_what_can_never_run_is_refused_before_any_hook_runs(tmp_path: Path, hook: oci.Hook, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        run(script(f"touch {tmp_path}/ran"), hook)
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    broken = tmp_path / "broken"
    broken.write_text("#!/nonexistent\n")
    broken.chmod(0o755)
    for path, words in (
        ("/nonexistent", "no such file or directory"), (str(plain), "permission denied"),
        (str(tmp_path), "permission denied"), (str(broken), "no such file or directory"),
    ):
        with pytest.raises(StartFailed, match=words):
            run(oci.Hook(path=path))


def test_poststop_hooks_all_run_and_failures_are_warnings(tmp_path: Path) -> None:
    warnings = hooks.run_all(
        [script("exit 4"), oci.Hook(path="x"), script(f"touch {tmp_path}/ran")], STATE, "poststop"
    )
    assert (tmp_path / "ran").exists()
    assert len(warnings) == 2 and "exit status 4" in warnings[0] and "not absolute" in warnings[1]


def logging(boat: Dock, *kinds: str) -> Path:
    """Each kind of hook appends "kind status pid-namespace" to a file on the host."""
    log = boat.directory / "hooks.log"
    log.touch()
    text = (
        'read state; status=${state#*\\"status\\":\\"}; '
        'echo "$0 ${status%%\\"*} $(readlink /proc/self/ns/uts)" >> "$1"'
    )
    boat.config["hooks"] = {kind: [{"path": SH, "args": [kind, "-c", text, kind, str(log)]}] for kind in kinds}
    return log


def test_each_runs_at_its_point_and_in_its_namespaces(boat: Dock) -> None:
    log = logging(boat, "prestart", "createRuntime", "createContainer", "poststart", "poststop")
    boat.create("sleep", "1000")
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == ["prestart", "createRuntime", "createContainer"]
    assert {line[1] for line in lines} == {"creating"}
    ours = os.readlink("/proc/self/ns/uts")
    inside = os.readlink(f"/proc/{boat.pid()}/ns/uts")
    assert [line[2] for line in lines] == [ours, ours, inside]
    boat.ok("start", boat.name)
    assert log.read_text().splitlines()[3:] == [f"poststart running {ours}"]
    boat.ok("delete", "--force", boat.name)
    assert log.read_text().splitlines()[4:] == [f"poststop stopped {ours}"]


def test_create_container_hooks_begin_in_the_root(boat: Dock) -> None:
    """As with runc and crun: `mount --bind /host/lib ./lib` is what they are for."""
    text = f"pwd > {boat.directory}/where; mkdir ./made; mount --bind {boat.directory}/states ./made"
    boat.config["hooks"] = {"createContainer": [{"path": SH, "args": ["sh", "-c", text], "env": ["PATH=/bin"]}]}
    done = boat.run("ls", "/made")
    assert (done.returncode, done.stdout) == (0, f"{boat.name}\n"), done.stderr
    assert (boat.directory / "where").read_text() == f"{boat.root}\n"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_start_container_hooks_are_under_the_seccomp_filter(boat: Dock, no_new_privileges: bool) -> None:
    """They are programs of the image."""
    boat.config["process"]["noNewPrivileges"] = no_new_privileges
    boat.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
    }
    boat.config["hooks"] = {"startContainer": [{"path": "/bin/mkdir", "args": ["mkdir", "/made"]}]}
    done = boat.run("true")
    assert done.returncode == 1 and "startContainer hook #0 (/bin/mkdir): killed by signal 31" in done.stderr
    assert not (boat.root / "made").exists()


def test_start_container_hooks_run_in_the_containers_root_before_its_program(boat: Dock) -> None:
    boat.config["hooks"] = {
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp-state; echo hook >> /order"]}]
    }
    done = boat.run("sh", "-c", "echo program >> /order")
    assert done.returncode == 0, done.stderr
    assert (boat.root / "order").read_text() == "hook\nprogram\n"
    assert json.loads((boat.root / "tmp-state").read_text())["status"] == "created"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_undoes_the_create(boat: Dock, kind: str) -> None:
    boat.config["hooks"] = {kind: [{"path": SH, "args": ["sh", "-c", "echo no >&2; exit 9"]}]}
    done = boat.run("touch", "/ran")
    assert done.returncode == 1
    assert f"{kind} hook #0" in done.stderr and "exit status 9" in done.stderr and "stderr: no" in done.stderr
    assert not (boat.root / "ran").exists() and os.listdir(boat.states) == []


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("fault", ["prestart", "createRuntime", "createContainer", "mount", "program"])
def test_poststop_hooks_clean_up_behind_a_create_that_failed(boat: Dock, fault: str, command: str) -> None:
    """runtime-spec, "Lifecycle": after a failing hook the lifecycle goes on at step 12, and 13 is poststop."""
    wanted: dict[str, Any] = {"poststop": [
        {"path": "/bin/false"}, {"path": SH, "args": ["sh", "-c", f"cat > {boat.directory}/state"]},
    ]}
    boat.config["process"]["args"] = ["/nowhere" if fault == "program" else "true"]
    if fault == "mount":
        boat.config["mounts"].append({"destination": "/m", "source": "/nowhere", "options": ["bind"]})
    elif fault != "program":
        wanted[fault] = [{"path": "/bin/false"}]
    boat.config["hooks"] = wanted
    boat.write()
    done = boat.call(command, "--bundle", str(boat.directory), boat.name)
    warning, error = done.stderr.splitlines()
    assert done.returncode == 1 and "level=warning" in warning and "poststop hook #0 (/bin/false)" in warning
    assert "level=error" in error and "poststop" not in error
    state = json.loads((boat.directory / "state").read_text())
    assert (state["status"], state["id"], "pid" in state) == ("stopped", boat.name, False)
    assert os.listdir(boat.states) == []


def test_a_hook_ends_with_a_create_that_is_interrupted(boat: Dock) -> None:
    os.mkfifo(boat.directory / "pid")
    text = f"echo $$ > {boat.directory}/pid; exec sleep 1000"
    boat.config["hooks"] = {"createRuntime": [{"path": SH, "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin"]}]}
    boat.write()
    command = boat.command("create", "--bundle", str(boat.directory), boat.name)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runtime:
        hook = int((boat.directory / "pid").read_text())
        runtime.send_signal(signal.SIGINT)
        assert runtime.wait(PATIENCE) == 130
    ended(hook)
    assert os.listdir(boat.states) == []


def test_poststop_hooks_of_what_never_was_do_not_run(boat: Dock) -> None:
    boat.config["hooks"] = {"poststop": [{"path": SH, "args": ["sh", "-c", f"> {boat.directory}/state"]}]}
    boat.config["process"]["args"] = []
    assert boat.run().returncode == 1
    assert not (boat.directory / "state").exists()


def test_a_failing_start_container_hook_keeps_the_program_from_running(boat: Dock) -> None:
    boat.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    done = boat.run("touch", "/ran")
    assert done.returncode == 1 and "startContainer hook #0" in done.stderr
    assert not (boat.root / "ran").exists()


def test_a_failing_poststart_hook_stops_the_container(boat: Dock) -> None:
    """runtime-spec 1.2, "Lifecycle": an error, the container is stopped."""
    boat.config["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    boat.create("sleep", "1000")
    pid = boat.pid()
    done = boat.call("start", boat.name)
    assert done.returncode == 1 and "poststart hook #0" in done.stderr
    ended(pid)
    assert boat.state()["status"] == "stopped"


def test_a_failing_poststop_hook_is_a_warning(boat: Dock) -> None:
    boat.config["hooks"] = {"poststop": [{"path": "/bin/false"}]}
    done = boat.run("true")
    assert done.returncode == 0 and "level=warning" in done.stderr and "poststop hook #0" in done.stderr


@pytest.mark.parametrize(
    "kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
def test_no_hook_sees_the_containers_or_our_environment_cve_2025_23266(boat: Dock, kind: str) -> None:
    inside = kind == "startContainer"
    seen = boat.root / "seen" if inside else boat.directory / "seen"
    shell, target = ("/bin/sh", "/seen") if inside else (SH, str(seen))
    read = f'tr "\\0" "\\n" < /proc/self/environ > {target}; ls /proc/self/fd >> {target}'
    boat.config["hooks"] = {kind: [{"path": shell, "args": ["sh", "-c", read], "env": ["PATH=/bin:/usr/bin"]}]}
    boat.config["process"]["env"] += ["OF_THE_CONTAINER=1", "LD_PRELOAD=/evil.so"]
    boat.env = {"OF_THE_RUNTIME": "1"}
    done = boat.run("true")
    assert done.returncode == 0, done.stderr
    names = {line.split("=")[0] for line in seen.read_text().splitlines() if "=" in line}
    assert names <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    assert {line for line in seen.read_text().splitlines() if line.isdigit()} <= {"0", "1", "2", "3"}
