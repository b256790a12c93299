"""ps and its filters, top, stats, networks of a container: what users see of what runs."""

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


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(boat: Engine) -> Iterator[None]:
    yield
    boat.remove_containers()


def names(boat: Engine, query: str = "", **filters: list[str]) -> list[str]:
    """The names that a listing has, in its order."""
    answer = boat.ask("GET", f"/containers/json?{query}&filters={quote(json.dumps(filters))}")
    return [it["Names"][0][1:] for it in answer]


def test_listing_and_filters(boat: Engine) -> None:
    boat.run("sleep", "1000", name="web", Labels={"tier": "front", "x": ""}, ExposedPorts={"80/tcp": {}})
    failed = boat.run("sh", "-c", "exit 3", name="job")
    boat.wait(failed)
    boat.create("true", name="later", HostConfig={"Binds": ["hold:/hold"], "NetworkMode": "none"})
    assert names(boat) == ["web"] and names(boat, "all=1") == ["later", "job", "web"]
    assert names(boat, "limit=2") == ["later", "job"]
    assert names(boat, status=["exited"]) == ["job"] and names(boat, status=["created", "running"]) == ["later", "web"]
    assert names(boat, exited=["3"]) == ["job"] and names(boat, exited=["0"]) == []
    assert names(boat, "all=1", label=["tier=front"]) == ["web"] and names(boat, "all=1", label=["tier=back"]) == []
    assert names(boat, "all=1", name=["^/job$"]) == ["job"] and names(boat, "all=1", name=["^we"]) == ["web"]
    assert names(boat, "all=1", name=["e"]) == ["later", "web"] and names(boat, "all=1", id=[failed[:9]]) == ["job"]
    assert names(boat, "all=1", before=["job"]) == ["web"] and names(boat, "all=1", since=["job"]) == ["later"]
    assert names(boat, "all=1", volume=["hold"]) == ["later"] and names(boat, "all=1", network=["none"]) == ["later"]
    assert names(boat, "all=1", ancestor=["busybox"]) == ["later", "job", "web"]
    assert names(boat, expose=["80/tcp"]) == ["web"] and names(boat, expose=["81"]) == []
    for filters in ({"status": ["sleeping"]}, {"nosuch": ["x"]}, {"name": ["(a+)+$"]}, {"exited": ["x"]}):
        assert boat.request("GET", f"/containers/json?filters={quote(json.dumps(filters))}")[0] == 400


def test_summary(boat: Engine) -> None:
    id = boat.run("sh", "-c", "sleep 1000 & wait", name="web", HostConfig={"PortBindings": {"80/tcp": [{}]}})
    summary = boat.ask("GET", "/containers/json")[0]
    assert summary["Id"] == id and summary["Image"] == "busybox" and summary["State"] == "running"
    assert summary["Status"].startswith("Up ") and summary["Command"] == "sh -c 'sleep 1000 & wait'"
    port = summary["Ports"][0]
    assert (port["PrivatePort"], port["Type"], port["IP"]) == (80, "tcp", "0.0.0.0") and port["PublicPort"] > 1023
    assert summary["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert boat.inspect(id)["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port["PublicPort"])}]
    }


def test_long_stop_is_in_nobodys_way(boat: Engine) -> None:
    id = boat.run("sleep", "1000", name="deaf")
    stopping = threading.Thread(target=lambda: boat.request("POST", f"/containers/{id}/stop?t=50"))
    stopping.start()
    begin = time.monotonic()
    assert names(boat) == ["deaf"] and boat.inspect(id)["State"]["Running"]
    assert boat.docker("exec", "deaf", "echo", "aye").stdout == "aye\n"
    boat.ask("POST", f"/containers/{id}/pause")
    boat.ask("POST", f"/containers/{id}/unpause")
    boat.ask("DELETE", f"/containers/{id}?force=1")
    stopping.join(20)
    assert not stopping.is_alive() and time.monotonic() - begin < 20


def test_top(boat: Engine) -> None:
    id = boat.run("sh", "-c", "sleep 1000 & wait")
    table = boat.ask("GET", f"/containers/{id}/top")
    assert table["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    pids = {int(row[1]) for row in table["Processes"]}
    assert boat.state(id)["Pid"] in pids
    while len(pids) < 2:
        pids = {int(row[1]) for row in boat.ask("GET", f"/containers/{id}/top")["Processes"]}
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert boat.ask("GET", f"/containers/{id}/top?ps_args=aux")["Titles"][:3] == ["USER", "PID", "%CPU"]
    table = boat.ask("GET", f"/containers/{id}/top?ps_args=-o%20pid,args")
    assert table["Titles"] == ["PID", "COMMAND"] and [row[1] for row in table["Processes"]][1:] == ["sleep 1000"]
    for wrong in ("-o%20nosuch", "--evil", "'"):
        assert boat.request("GET", f"/containers/{id}/top?ps_args={wrong}")[0] == 400


def test_stats(boat: Engine) -> None:
    id = boat.run("sh", "-c", "while :; do :; done", HostConfig={"Memory": 64 << 20, "NanoCpus": 500_000_000})
    first = boat.ask("GET", f"/containers/{id}/stats?stream=0&one-shot=1")
    found = boat.ask("GET", f"/containers/{id}/stats?stream=0")
    assert found["memory_stats"]["limit"] == 64 << 20 and found["memory_stats"]["usage"] > 0
    assert found["pids_stats"]["current"] == 1 and found["name"] == f"/{boat.inspect(id)['Name'][1:]}"
    used = found["cpu_stats"]["cpu_usage"]["total_usage"] - found["precpu_stats"]["cpu_usage"]["total_usage"]
    system = found["cpu_stats"]["system_cpu_usage"] - found["precpu_stats"]["system_cpu_usage"]
    assert 0 < used < 900_000_000 and system > used
    assert found["networks"]["eth0"]["rx_packets"] >= 0 and first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    boat.ask("POST", f"/containers/{id}/kill")
    assert boat.ask("GET", f"/containers/{id}/stats?stream=0")["pids_stats"] == {}


def test_stats_stream_ends_with_the_container(boat: Engine) -> None:
    id = boat.run("sleep", "1000")
    connection = boat.connect()
    try:
        connection.request("GET", f"/v1.47/containers/{id}/stats")
        with connection.getresponse() as answer:
            assert json.loads(answer.readline())["id"] == id
            boat.ask("DELETE", f"/containers/{id}?force=1")
            while answer.readline():
                pass
    finally:
        connection.close()


def output(boat: Engine, *command: str, **body: Any) -> str:
    id = boat.run(*command, Tty=True, **body)
    assert boat.wait(id) == 0
    return boat.docker("logs", id).stdout.replace("\r\n", "\n")


def test_network_modes(boat: Engine) -> None:
    assert "eth0" not in output(boat, "ip", "-o", "addr", HostConfig={"NetworkMode": "none"})
    host = output(boat, "readlink", "/proc/self/ns/net", HostConfig={"NetworkMode": "host"})
    assert host.strip() == str(Path("/proc/self/ns/net").readlink())
    peer = boat.run("sleep", "1000", name="peer")
    joined = {"NetworkMode": "container:peer", "PidMode": "container:peer", "IpcMode": "container:peer"}
    out = output(boat, "sh", "-c", "hostname; for n in net ipc pid; do readlink /proc/1/ns/$n; done", HostConfig=joined)
    pid = boat.state(peer)["Pid"]
    wanted = [str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in ("net", "ipc", "pid")]
    assert out.split() == [peer[:12], *wanted]
    boat.ask("POST", "/containers/peer/kill")
    later = boat.create("true", HostConfig={"NetworkMode": "container:peer"})
    status, answer = boat.request("POST", f"/containers/{later}/start")
    assert status == 409 and "cannot join network of a non running container" in answer["message"]


def test_port_that_is_taken_leaves_nothing(boat: Engine) -> None:
    taken = {"PortBindings": {"80/tcp": [{"HostPort": "18200"}]}}
    boat.run("sleep", "1000", HostConfig=taken)
    second = boat.create("sleep", "1000", HostConfig=taken)
    status, answer = boat.request("POST", f"/containers/{second}/start")
    assert status >= 400 and "port is already allocated" in answer["message"]
    state = boat.inspect(second)
    assert state["State"]["Status"] == "created" and not state["NetworkSettings"]["IPAddress"]
    ranged = boat.run("sleep", "1000", HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "18200-18210"}]}})
    assert boat.inspect(ranged)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"] == "18201"


def test_hosts_and_resolver(boat: Engine) -> None:
    config = {"ExtraHosts": ["pier:192.0.2.7", "outside:host-gateway"], "Dns": ["192.0.2.53"], "DnsSearch": ["sea"]}
    out = output(boat, "cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", HostConfig=config, Hostname="boat")
    gateway = boat.bip.partition("/")[0]
    assert "192.0.2.7\tpier\n" in out and f"{gateway}\toutside\n" in out and "\tboat\n" in out
    assert "nameserver 192.0.2.53\nsearch sea\n" in out and out.endswith("boat\n")


def test_attach_before_the_start_and_history(boat: Engine) -> None:
    assert boat.docker("run", "--rm", "-i", "busybox", "cat", input="aye\n").stdout == "aye\n"
    id = boat.run("sh", "-c", "echo one; read x; echo $x", OpenStdin=True, StdinOnce=True)
    done = boat.docker("attach", id, input="two\n")
    assert done.stdout.endswith("two\n") and boat.wait(id) == 0
    assert boat.docker("start", "-a", boat.create("echo", "again")).stdout == "again\n"
