"""A container's life over the API: states, exit codes, errors in Docker's words, nothing half-made."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from engine_fixture import Engine, engine

DEAF = ("sleep", "1000")
HEARS = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 1000 & wait; done")
RM = {"AutoRemove": True}


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(boat: Engine) -> Iterator[None]:
    """Each test begins without containers, and leaves no directory, socket or cgroup of one."""
    yield
    boat.remove_containers()
    assert not left(boat)


def left(boat: Engine) -> list[str]:
    found = [str(path) for path in (boat.data_root / "containers").iterdir()]
    found += [str(path) for path in (boat.exec_root / "containers").iterdir()]
    return found + [
        str(path) for parent in Path("/sys/fs/cgroup").glob(f"*/{boat.cgroup_parent}") for path in parent.iterdir()
        if path.is_dir()
    ]


def ready(boat: Engine, id: str) -> str:
    """Wait for the container's first output: before, its process 1 may have no handler yet."""
    connection = boat.connect()
    try:
        connection.request("GET", f"/v1.47/containers/{id}/logs?stdout=1&follow=1")
        with connection.getresponse() as answer:
            answer.read(1)
    finally:
        connection.close()
    return id


def refused(answer: tuple[int, Any], status: int, *words: str) -> None:
    assert answer[0] == status, answer
    for word in words:
        assert word in answer[1]["message"]


def test_state_of_a_container_that_ran(boat: Engine) -> None:
    id = boat.run("sh", "-c", "exit 7")
    assert boat.wait(id) == 7
    found = boat.inspect(id)
    state = found["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 7, 0)
    assert state["Error"] == "" and state["KilledBy"] == "" and not state["OOMKilled"]
    assert state["StartedAt"] < state["FinishedAt"] and found["Created"] <= state["StartedAt"]
    assert found["Path"] == "sh" and found["Args"] == ["-c", "exit 7"]
    assert found["NetworkSettings"]["IPAddress"] == ""


def test_running_container_is_inspected(boat: Engine) -> None:
    id = boat.run(*DEAF, name="web", ExposedPorts={"80/tcp": {}})
    found = boat.inspect("web")
    assert found["Id"] == id and found["Name"] == "/web" and found["State"]["Running"]
    assert Path(f"/proc/{found['State']['Pid']}/comm").read_text() == "sleep\n"
    network = found["NetworkSettings"]
    assert network["IPAddress"].startswith("10.") and network["Networks"]["bridge"]["IPAddress"] == network["IPAddress"]
    assert network["Gateway"] and network["MacAddress"] and network["Ports"] == {"80/tcp": None}
    assert found["HostConfig"]["NetworkMode"] == "bridge" and found["HostConfig"]["ShmSize"] == 64 << 20
    data = found["GraphDriver"]["Data"]
    assert Path(data["UpperDir"]).is_dir() and all(Path(path).is_dir() for path in data["LowerDir"].split(":"))
    for name in ("HostnamePath", "HostsPath", "ResolvConfPath", "LogPath"):
        assert Path(found[name]).is_file()
    assert network["IPAddress"] in Path(found["HostsPath"]).read_text()


def test_removed_with_its_end(boat: Engine) -> None:
    id = boat.create("true", HostConfig=RM)
    boat.ask("POST", f"/containers/{id}/start")
    status, answer = boat.request("POST", f"/containers/{id}/wait?condition=removed")
    assert status == 404 or answer["StatusCode"] == 0
    assert boat.request("GET", f"/containers/{id}/json")[0] == 404
    assert not left(boat)


@pytest.mark.parametrize(("command", "code", "words"), [
    ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
    ("/no/such", 127, "no such file or directory"),
    ("/etc/passwd", 126, "permission denied"),
    ("/etc", 126, ""),
])
def test_program_that_cannot_be_started(boat: Engine, command: str, code: int, words: str) -> None:
    id = boat.create(command)
    refused(boat.request("POST", f"/containers/{id}/start"), 400, "failed to create task for container: ", words)
    state = boat.state(id)
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("created", code, 0)
    assert words in state["Error"]
    assert not list((boat.exec_root / "containers").iterdir())
    boat.ask("DELETE", f"/containers/{id}")
    removed = boat.create(command, HostConfig=RM)
    assert boat.request("POST", f"/containers/{removed}/start")[0] == 400
    assert boat.request("GET", f"/containers/{removed}/json")[0] == 404


def test_unknown_user_leaves_nothing(boat: Engine) -> None:
    id = boat.create("true", User="nobody-here")
    status, answer = boat.request("POST", f"/containers/{id}/start")
    assert status >= 400 and "nobody-here" in answer["message"]
    assert boat.state(id)["Status"] == "created"
    assert not list((boat.exec_root / "containers").iterdir())


def test_what_does_not_fit_the_state(boat: Engine) -> None:
    id = boat.create(*DEAF, name="web")
    assert boat.request("POST", "/containers/web/stop")[0] == 304
    refused(boat.request("POST", "/containers/web/kill"), 409, f"cannot kill container: web: container {id}")
    refused(boat.request("POST", "/containers/web/pause"), 409, "is not running")
    refused(boat.request("POST", "/containers/web/exec", {"Cmd": ["true"]}), 409, f"container {id} is not running")
    refused(boat.request("GET", "/containers/web/top"), 409, "is not running")
    boat.ask("POST", "/containers/web/start")
    assert boat.request("POST", "/containers/web/start")[0] == 304
    refused(boat.request("POST", "/containers/web/unpause"), 409, "is not paused")
    refused(boat.request("DELETE", "/containers/web"), 409, 'cannot remove container "/web": container is running')
    boat.ask("POST", "/containers/web/pause")
    refused(boat.request("POST", "/containers/web/pause"), 409, "is already paused")
    refused(boat.request("POST", "/containers/web/start"), 409, "cannot start a paused container, try unpause instead")
    refused(boat.request("POST", "/containers/web/exec", {"Cmd": ["true"]}), 409, "is paused, unpause the container")
    refused(boat.request("DELETE", "/containers/web"), 409, "container is paused and must be unpaused first")
    assert boat.request("GET", "/containers/nosuch/json") == (404, {"message": "No such container: nosuch"})


def test_names(boat: Engine) -> None:
    id = boat.create("true", name="web")
    other = boat.create("true")
    assert "_" in boat.inspect(other)["Name"]
    answer = boat.request("POST", "/containers/create?name=web", {"Image": "busybox", "Cmd": ["true"]})
    refused(answer, 409, f'Conflict. The container name "/web" is already in use by container "{id}". You have to')
    refused(boat.request("POST", f"/containers/{other}/rename?name=web"), 409, "is already in use by container")
    for name in ("a", "-a", "a%20b", "a%2Fb", "%C3%A4x"):
        answer = boat.request("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["true"]})
        refused(answer, 400, "Invalid container name", "[a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    boat.ask("POST", f"/containers/{id}/rename?name=boat")
    assert boat.inspect("boat")["Id"] == id and boat.inspect(id[:12])["Id"] == id
    boat.ask("POST", f"/containers/{other}/rename?name=web")
    assert len(boat.ask("GET", "/containers/json?all=1")) == 2


@pytest.mark.parametrize(("body", "words"), [
    ({"Image": "nosuch"}, "No such image: nosuch:latest"),
    ({"HostConfig": {"Memory": 4 << 20}}, "Minimum memory limit allowed is 6MB"),
    ({"HostConfig": {"CpusetCpus": "77"}}, "Requested CPUs are not available - requested 77, available: "),
    ({"HostConfig": {"CpusetCpus": "0-99999999999"}}, "Invalid value 0-99999999999 for cpuset cpus"),
    ({"HostConfig": {"NanoCpus": 10**12}}, "as there are only"),
    ({"HostConfig": {"Memory": "much"}}, "HostConfig.Memory"),
    ({"HostConfig": {"NetworkMode": "nosuch"}}, "network nosuch not found"),
    ({"HostConfig": {"Binds": ["/a:b"]}}, "mount path must be absolute"),
    ({"HostConfig": {"Binds": ["/tmp:/x", "/etc:/x"]}}, "Duplicate mount point: /x"),
    ({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/no", "Target": "/x"}]}}, "source path does not exist"),
    ({"HostConfig": {"PortBindings": {"99999/tcp": [{}]}}}, "invalid port specification"),
    ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}}, 'Invalid hostPort: "x"'),
    ({"HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}, "unknown policy 'sometimes'"),
    ({"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, "can't create 'AutoRemove' container"),
    ({"Cmd": []}, "no command specified"),
    ({"WorkingDir": "here"}, "needs to be an absolute path"),
    ({"Env": ["=x"]}, "invalid environment variable: =x"),
    ({"StopSignal": "SIGNONE"}, "invalid signal: SIGNONE"),
])
def test_impossible_wishes(boat: Engine, body: dict[str, Any], words: str) -> None:
    status, answer = boat.request("POST", "/containers/create?name=wish", {"Image": "busybox", "Cmd": ["true"], **body})
    assert 400 <= status < 500, answer
    assert words in answer["message"]
    assert boat.ask("GET", "/containers/json?all=1") == [] and not left(boat)
    assert boat.ask("GET", "/volumes")["Volumes"] == []


def test_stop_by_handler(boat: Engine) -> None:
    id = ready(boat, boat.run(*HEARS))
    boat.ask("POST", f"/containers/{id}/stop")
    assert boat.state(id)["ExitCode"] == 3


def test_stop_of_a_program_that_cannot_hear_says_so(boat: Engine) -> None:
    id = boat.run(*DEAF)
    connection = boat.connect()
    try:
        connection.request("POST", f"/v1.47/containers/{id}/stop?t=0")
        answer = connection.getresponse()
        assert answer.status == 204
        warning = " ".join(value for name, value in answer.getheaders() if "warning" in name.lower())
    finally:
        connection.close()
    assert "PID 1 (sleep) has no handler for SIGTERM" in warning and "--init" in warning
    assert boat.state(id)["ExitCode"] == 137


def test_init_passes_the_signal_on(boat: Engine) -> None:
    id = boat.run(*DEAF, HostConfig={"Init": True})
    boat.ask("POST", f"/containers/{id}/stop?t=30")
    assert boat.state(id)["ExitCode"] == 143


def test_stop_signal_and_kill(boat: Engine) -> None:
    script = "trap 'exit 4' USR1; echo ready; while :; do sleep 1000 & wait; done"
    id = ready(boat, boat.run("sh", "-c", script, StopSignal="SIGUSR1"))
    boat.ask("POST", f"/containers/{id}/stop?t=30")
    assert boat.state(id)["ExitCode"] == 4
    boat.ask("POST", f"/containers/{id}/start")
    refused(boat.request("POST", f"/containers/{id}/kill?signal=SIGNONE"), 400, "invalid signal: SIGNONE")
    boat.ask("POST", f"/containers/{id}/kill")
    assert boat.state(id)["ExitCode"] == 137


def test_paused_container_is_stopped_and_killed(boat: Engine) -> None:
    id = ready(boat, boat.run(*HEARS))
    boat.ask("POST", f"/containers/{id}/pause")
    state = boat.state(id)
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    boat.ask("POST", f"/containers/{id}/stop?t=30")
    assert boat.state(id)["ExitCode"] == 3
    boat.ask("POST", f"/containers/{id}/start")
    boat.ask("POST", f"/containers/{id}/pause")
    boat.ask("DELETE", f"/containers/{id}?force=1")
    assert boat.request("GET", f"/containers/{id}/json")[0] == 404


def test_wait_conditions(boat: Engine) -> None:
    id = boat.create("sh", "-c", "exit 5")
    assert boat.wait(id) == 0  # not running: at once
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(boat.wait(id, "next-exit")))
    waiting.start()
    boat.ask("POST", f"/containers/{id}/start")
    waiting.join(20)
    assert ended == [5] or boat.state(id)["Status"] == "exited"  # the wait may have come after a very fast end
    refused(boat.request("POST", f"/containers/{id}/wait?condition=never"), 400, "never")
    if waiting.is_alive():
        boat.ask("POST", f"/containers/{id}/start")
        waiting.join(20)


def test_memory_limit_is_told_apart(boat: Engine) -> None:
    id = boat.run("sh", "-c", "exec tail /dev/zero", HostConfig={"Memory": 16 << 20, "MemorySwap": 16 << 20})
    assert boat.wait(id) == 137
    state = boat.state(id)
    assert state["OOMKilled"] and state["KilledBy"] == "memory limit of this container"
    assert "memory limit of this container" in state["Error"]
    boat.ask("POST", f"/containers/{id}/start")
    boat.wait(id)


def test_limits_change_while_it_runs(boat: Engine) -> None:
    id = boat.run(*DEAF, HostConfig={"Memory": 64 << 20})
    boat.ask("POST", f"/containers/{id}/update", {"Memory": 100 << 20, "MemorySwap": 200 << 20, "CpuShares": 512})
    found = boat.inspect(id)
    assert found["HostConfig"]["Memory"] == 100 << 20 and found["HostConfig"]["CpuShares"] == 512
    cgroups = found["State"]["Cgroups"]
    limit = Path(cgroups.get("memory") or cgroups["unified"])
    name = "memory.limit_in_bytes" if "memory" in cgroups else "memory.max"
    assert int((limit / name).read_text()) == 100 << 20
    refused(boat.request("POST", f"/containers/{id}/update", {"Memory": 1}), 400, "Minimum memory limit allowed is 6MB")
    assert boat.inspect(id)["HostConfig"]["Memory"] == 100 << 20


def until(boat: Engine, id: str, *actions: str) -> list[dict[str, Any]]:
    """The container's events of these kinds so far."""
    now = time.time() + 1
    connection = boat.connect()
    try:
        filters = quote(json.dumps({"container": [id]}))
        connection.request("GET", f"/v1.47/events?since=0&until={now:.3f}&filters={filters}")
        lines = connection.getresponse().read().splitlines()
    finally:
        connection.close()
    return [event for line in lines if (event := json.loads(line))["Action"] in actions]


def test_restart_on_failure_has_an_end(boat: Engine) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    id = boat.create("false", HostConfig=policy)
    waits = [threading.Thread(target=lambda: boat.wait(id, "next-exit")) for _ in range(3)]
    boat.ask("POST", f"/containers/{id}/start")
    for waiting in waits:  # three runs, each end is told
        waiting.start()
        waiting.join(20)
    state = boat.state(id)
    while state["Status"] != "exited" or boat.inspect(id)["RestartCount"] < 2:
        state = boat.state(id)
    assert boat.inspect(id)["RestartCount"] == 2 and state["ExitCode"] == 1


def test_stopped_by_hand_stays_stopped(boat: Engine) -> None:
    id = boat.run(*DEAF, HostConfig={"Init": True, "RestartPolicy": {"Name": "always"}})
    boat.ask("POST", f"/containers/{id}/stop")
    assert boat.state(id)["Status"] == "exited"
    boat.ask("POST", f"/containers/{id}/start")
    boat.ask("POST", f"/containers/{id}/restart")
    assert boat.state(id)["Running"] and boat.inspect(id)["RestartCount"] == 0


def test_restarting_container_can_be_stopped_and_removed(boat: Engine) -> None:
    id = boat.run("false", HostConfig={"RestartPolicy": {"Name": "always"}})
    while boat.state(id)["Status"] != "restarting":
        pass
    assert boat.request("POST", f"/containers/{id}/stop")[0] in (204, 304)
    assert boat.state(id)["Status"] == "exited"


def test_restart_of_a_removing_container_keeps_it(boat: Engine) -> None:
    id = boat.run(*DEAF, HostConfig=RM | {"Init": True})
    boat.ask("POST", f"/containers/{id}/restart")
    assert boat.state(id)["Running"]


def test_many_hands_on_one_container(boat: Engine) -> None:
    id = boat.create(*DEAF)
    answers: list[int] = []

    def act(method: str, path: str) -> None:
        answers.append(boat.request(method, path)[0])

    for _ in range(4):
        hands = [
            threading.Thread(target=act, args=("POST", f"/containers/{id}/{what}"))
            for what in ("start", "stop?t=1", "start", "kill", "restart?t=1", "pause", "unpause")
        ]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join(60)
    assert set(answers) <= {204, 304, 409}, answers
    hands = [threading.Thread(target=act, args=("DELETE", f"/containers/{id}?force=1")) for _ in range(3)]
    answers.clear()
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(60)
    assert 204 in answers and set(answers) <= {204, 404, 409}
    assert boat.request("GET", f"/containers/{id}/json")[0] == 404


def test_many_at_once(boat: Engine) -> None:
    codes: list[int] = []

    def one(number: int) -> None:
        id = boat.create("sh", "-c", f"exit {number}")
        boat.ask("POST", f"/containers/{id}/start")
        codes.append(boat.wait(id))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(codes) == list(range(1, 25))


def test_prune_takes_what_has_ended(boat: Engine) -> None:
    running, ended = boat.run(*DEAF), boat.run("sh", "-c", "echo 12345 > /x")
    boat.wait(ended)
    answer = boat.ask("POST", "/containers/prune")
    assert answer["ContainersDeleted"] == [ended] and answer["SpaceReclaimed"] >= 6
    assert [it["Id"] for it in boat.ask("GET", "/containers/json?all=1")] == [running]


def test_events_of_a_life(boat: Engine) -> None:
    id = boat.run("false", name="told")
    boat.wait(id)
    boat.ask("POST", f"/containers/{id}/rename?name=told2")
    boat.ask("DELETE", f"/containers/{id}")
    events = until(boat, id, "create", "start", "die", "rename", "destroy")
    assert [event["Action"] for event in events] == ["create", "start", "die", "rename", "destroy"]
    assert events[2]["Actor"]["Attributes"]["exitCode"] == "1" and events[0]["from"] == "busybox"
