"""The docker command and docker-py on the rest: version, info, events, df, volumes, networks, what is refused."""

from __future__ import annotations

import json
import subprocess
import time

import docker
import pytest

from engine_fixture import Engine
from sampan import __version__


def test_version(engine: Engine) -> None:
    text = engine.docker("version").stdout
    assert "Server: Sampan" in text and "API version:      1.50 (minimum version 1.24)" in text
    version = json.loads(engine.docker("version", "-f", "{{json .Server}}").stdout)
    assert version["Version"] == __version__ and version["Os"] == "linux" and version["ApiVersion"] == "1.50"


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.41", "1.44", "1.50"])
def test_older_clients(engine: Engine, version: str) -> None:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}", version=version)
    try:
        assert client.ping() and client.version()["MinAPIVersion"] == "1.24"
        assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
        assert client.images.list()[0].tags == ["busybox:latest"]
    finally:
        client.close()


def test_info(engine: Engine) -> None:
    assert " Server Version: " + __version__ in engine.docker("info").stdout
    info = json.loads(engine.docker("info", "-f", "{{json .}}").stdout)
    assert info["Images"] == 1 and info["Driver"] == "overlay2" and info["CgroupVersion"] in ("1", "2")
    assert info["NCPU"] >= 1 and info["MemTotal"] > 1 << 20 and info["LiveRestoreEnabled"] is True
    assert info["DockerRootDir"] == str(engine.data_root) and info["Swarm"]["LocalNodeState"] == "inactive"


@pytest.mark.docker_client("28")
def test_events_while_they_happen(engine: Engine) -> None:
    with subprocess.Popen(
        ["docker", "events", "--filter", "type=volume", "--format", "{{.Action}} {{.Actor.ID}}"],
        stdout=subprocess.PIPE, env=engine.environment, text=True,
    ) as listener:
        assert listener.stdout is not None
        try:
            for number in range(1000):  # until it listens: the command says nothing of its own
                engine.docker("volume", "create", f"told-{number}")
                if json.loads(engine.docker("info", "-f", "{{json .NEventsListener}}").stdout):
                    break
            engine.docker("volume", "create", "heard")
            while (line := listener.stdout.readline()) != "create heard\n":
                assert line.startswith("create told-")
        finally:
            listener.kill()
    engine.docker("volume", "prune", "-af")
    for _ in range(1000):
        if not json.loads(engine.docker("info", "-f", "{{json .NEventsListener}}").stdout):
            return  # the engine has noticed that the client is gone
    raise AssertionError("a listener that is gone is kept")


def test_events_of_a_containers_life(engine: Engine) -> None:
    since = f"{time.time():.9f}"
    engine.docker("run", "--name", "lived", "--label", "a=b", "busybox", "sh", "-c", "exit 3", check=False)
    engine.docker("rm", "lived")
    lines = engine.docker(
        "events", "--since", since, "--until", f"{time.time():.9f}", "-f", "container=lived", "--format", "{{json .}}"
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    actions = [event["Action"] for event in events]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create", "start", "die", "destroy",
    ]
    died = events[actions.index("die")]
    assert died["Actor"]["Attributes"]["exitCode"] == "3" and died["Actor"]["Attributes"]["a"] == "b"
    assert died["from"] == "busybox" and died["timeNano"] // 10**9 == died["time"]


@pytest.mark.docker_client("28")
def test_volumes(engine: Engine) -> None:
    assert engine.docker("volume", "create", "--label", "a=b", "data").stdout == "data\n"
    mount = json.loads(engine.docker("volume", "inspect", "data").stdout)[0]["Mountpoint"]
    assert mount == f"{engine.data_root}/volumes/data/_data"
    engine.docker("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file")
    assert engine.docker("run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/file").stdout == "kept\n"
    holder = engine.docker("create", "-v", "data:/data", "busybox", "true").stdout.strip()
    refused = engine.docker("volume", "rm", "data", check=False)
    assert refused.returncode == 1 and f"volume is in use - [{holder}]" in refused.stderr
    assert engine.docker("volume", "ls", "-q", "--filter", "dangling=true").stdout == ""
    engine.docker("rm", holder)
    assert engine.docker("volume", "rm", "data").stdout == "data\n"
    missing = engine.docker("volume", "rm", "data", check=False)
    assert missing.returncode == 1 and "get data: no such volume" in missing.stderr
    refused = engine.docker("volume", "create", "no/slash", check=False)
    assert refused.returncode == 1 and "includes invalid characters for a local volume name" in refused.stderr


@pytest.mark.docker_client("28")
def test_networks(engine: Engine) -> None:
    rows = [line.split()[1:] for line in engine.docker("network", "ls").stdout.splitlines()[1:]]
    assert sorted(rows) == [["bridge", "bridge", "local"], ["host", "host", "local"], ["none", "null", "local"]]
    for command, words in (
        (["network", "create", "mine"], "not supported yet"),
        (["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (["network", "inspect", "mine"], "network mine not found"),
    ):
        refused = engine.docker(*command, check=False)
        assert refused.returncode != 0 and words in refused.stderr
    assert engine.docker("network", "prune", "-f").stdout == ""


@pytest.mark.docker_client("28")
def test_disk_usage(engine: Engine) -> None:
    engine.docker("volume", "create", "used")
    engine.docker("run", "--name", "holder", "-v", "used:/data", "busybox", "sh", "-c",
                  "echo 12345 > /data/file; echo 123 > /file")
    try:
        usage = json.loads(engine.docker("system", "df", "--format", "json", "-v").stdout)
        assert usage["Images"][0]["Containers"] == "1"
        assert usage["Volumes"][0]["Links"] == "1" and usage["Volumes"][0]["Size"] == "6B"
        assert usage["Containers"][0]["Size"] == "4B"
        assert "Images          1         1" in engine.docker("system", "df").stdout
    finally:
        engine.docker("rm", "holder")
        engine.docker("volume", "rm", "used")


def test_what_is_not_there_is_refused_clearly(engine: Engine) -> None:
    for command, words in (
        (["node", "ls"], "This node is not a swarm manager"),
        (["service", "ls"], "This node is not a swarm manager"),
        (["swarm", "init"], "Sampan has no swarm mode"),
        (["ps", "--filter", "colour=red"], "invalid filter 'colour'"),
        (["events", "--filter", "colour=red"], "invalid filter 'colour'"),
        (["volume", "ls", "--filter", "colour=red"], "invalid filter 'colour'"),
    ):
        refused = engine.docker(*command, check=False)
        assert refused.returncode == 1 and words in refused.stderr
    assert engine.docker("plugin", "ls", "-q").stdout == ""
