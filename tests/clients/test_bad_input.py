"""Bad input to containers: one clear sentence, Docker's status or exit code, and nothing half-made left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_fixture import Engine
from engine_fixture import engine as new_engine
from sampan import errors

VARYING = ("berths", "trash", "seccomp", "state.db", "state.db-wal", "state.db-shm")
"""In a data root: made ahead, not yet deleted, cached, the database's."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with new_engine() as engine:
        engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
        yield engine


def things(engine: Engine) -> dict[str, Any]:
    """All there is of an engine's things, on disk, in cgroups, mounts and nftables."""
    tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return {
        "containers": {it["Id"]: it["State"] for it in engine.ask("GET", "/containers/json?all=1")},
        "images": {it["Id"]: it["RepoTags"] for it in engine.ask("GET", "/images/json?all=1")},
        "volumes": [it["Name"] for it in engine.ask("GET", "/volumes")["Volumes"] or ()],
        "data root": sorted(
            str(path) for top in engine.data_root.iterdir() if top.name not in VARYING for path in top.glob("*/*")
        ),
        "exec root": sorted(str(path) for path in engine.exec_root.glob("*/*")),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{engine.cgroup_parent}/*/")),
        "mounts": Path(f"/proc/{engine.pid}/mountinfo").read_text(),
        "ports": re.findall(r"(?:tcp|udp) \. \d+ : .*", tables),
    }


@pytest.fixture(autouse=True)
def nothing_left(engine: Engine) -> Iterator[None]:
    before = things(engine)
    yield
    assert things(engine) == before


def by_sampan(engine: Engine, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sampan.cli", "-H", f"unix://{engine.socket}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What stderr says, without the docker command's own lines around it."""
    lines = done.stderr.splitlines()
    around = ("Run '", "See '", "Usage:", "Unable to find image")
    return " ".join(line for line in lines if line and not line.startswith(around))


REFUSED = {
    "unknown image": (["nosuch:v9", "true"], 125, "there is no image nosuch:v9 on this host"),
    "bad image name": (["No Such", "true"], 125, "invalid reference format"),
    "command not found": (["busybox", "nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
    "no such path": (["busybox", "/no/such"], 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
    "not executable": (["busybox", "/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
    "a directory": (["busybox", "/etc"], 126, 'exec: "/etc": is a directory'),
    "no command": (["busybox"], 125, "no command specified"),
    "name in use": (["--name", "web", "busybox", "true"], 125, 'The container name "/web" is already in use by'),
    "bad name": (["--name", "a/b", "busybox", "true"], 125, "Invalid container name (a/b)"),
    "bad port": (["-p", "99999:80", "busybox", "true"], 125, "99999"),
    "bad port name": (["-p", "http:80", "busybox", "true"], 125, "http"),
    "bad address": (["-p", "1.2.3:80:80", "busybox", "true"], 125, "1.2.3"),
    "address not here": (["-p", "192.0.2.1:8080:80", "busybox", "true"], 125, "the host does not have this address"),
    "memory": (["-m", "1m", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
    "not memory": (["-m", "5x", "busybox", "true"], 125, "5x"),
    "swap": (["-m", "64m", "--memory-swap", "32m", "busybox", "true"], 125, "memoryswap limit should be larger"),
    "cpuset": (["--cpuset-cpus", "99", "busybox", "true"], 125, "Requested CPUs are not available - requested 99"),
    "huge cpuset": (["--cpuset-cpus", "1-99999999999", "busybox", "true"], 125, "Invalid value 1-99999999999"),
    "cpuset mems": (["--cpuset-mems", "77", "busybox", "true"], 125, "Requested memory nodes are not available"),
    "cpus": (["--cpus", "4096", "busybox", "true"], 125, "range of CPUs is from 0.01 to"),
    "user": (["-u", "nobody-here", "busybox", "true"], 125, "unable to find user nobody-here: no matching entries"),
    "group": (["-u", "root:nowhere", "busybox", "true"], 125, "unable to find group nowhere: no matching entries"),
    "uid": (["-u", "4294967296", "busybox", "true"], 125, "user id 4294967296 is out of range"),
    "group-add": (["--group-add", "nowhere", "busybox", "true"], 125, "unable to find group nowhere"),
    "workdir is a file": (["-w", "/etc/passwd", "busybox", "true"], 125, '"/etc/passwd") failed: not a directory'),
    "relative workdir": (["-w", "tmp", "busybox", "true"], 125, "the working directory 'tmp' is invalid"),
    "option": (["--nosuch", "busybox", "true"], 125, "unknown flag: --nosuch"),
    "sysctl of the host": (["--sysctl", "kernel.panic=1", "busybox", "true"], 125, "kernel.panic=1"),
    "sysctl": (["--sysctl", "net.nosuch=1", "busybox", "true"], 125, "net.nosuch"),
    "capability": (["--cap-add", "FLY", "busybox", "true"], 125, 'invalid capability: unknown capability: "CAP_FLY"'),
    "network": (["--network", "nosuch", "busybox", "true"], 125, "network nosuch not found"),
    "network of a container": (["--network", "container:nosuch", "busybox", "true"], 125, "No such container:"),
    "pid of a container": (["--pid", "container:nosuch", "busybox", "true"], 125, "No such container: nosuch"),
    "volumes from": (["--volumes-from", "nosuch", "busybox", "true"], 125, "No such container: nosuch"),
    "bind source": (["--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"], 125,
                    "bind source path does not exist: /no/such"),
    "relative mount": (["-v", "/tmp:x", "busybox", "true"], 125, "mount path must be absolute"),
    "volume name": (["-v", "a b:/x", "busybox", "true"], 125, "includes invalid characters for a local volume name"),
    "mount twice": (["-v", "/tmp:/x", "-v", "/etc:/x", "busybox", "true"], 125, "Duplicate mount point: /x"),
    "a volume, then wrong": (["-v", "/x", "-v", "aa:/y", "-v", "/etc:/y", "busybox", "true"], 125, "Duplicate"),
    "tmpfs option": (["--tmpfs", "/t:fly=1", "busybox", "true"], 125, 'invalid tmpfs option ["fly=1"]'),
    "device": (["--device", "/dev/nosuch", "busybox", "true"], 125, 'adding custom device "/dev/nosuch"'),
    "hostname": (["-h", "a b", "busybox", "true"], 125, "invalid hostname format: a b"),
    "stop signal": (["--stop-signal", "FLY", "busybox", "true"], 125, "FLY"),
    "seccomp file": (["--security-opt", "seccomp=/no/such", "busybox", "true"], 125, "/no/such"),
    "oom score": (["--oom-score-adj", "5000", "busybox", "true"], 125, "range for oom score adj is [-1000, 1000]"),
    "log driver": (["--log-driver", "fly", "busybox", "true"], 125, "no log driver named 'fly' is registered"),
    "runtime": (["--runtime", "fly", "busybox", "true"], 125, "unknown or invalid runtime name: fly"),
    "cgroup parent": (["--cgroup-parent", "../../x", "busybox", "true"], 125, "invalid cgroup path"),
    "isolation": (["--isolation", "hyperv", "busybox", "true"], 125, "invalid isolation 'hyperv' on linux"),
    "ip": (["--ip", "10.1.2.3", "busybox", "true"], 125, "IP address is supported on user defined networks only"),
    "other platform": (["--platform", "linux/s390x", "busybox", "true"], 125, "does not match the specified platform"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", ["docker", "sampan"])
def test_run(engine: Engine, command: str, name: str) -> None:
    args, code, words = REFUSED[name]
    run = by_sampan if command == "sampan" else by_docker
    done = run(engine, "run", "--rm", *args)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert words in sentence(done) and "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert name in ("option", "bad name") or len(sentence(done)) < 400


def by_docker(engine: Engine, *args: str) -> subprocess.CompletedProcess[str]:
    return engine.docker(*args, check=False)


@pytest.mark.parametrize("command", [by_sampan, by_docker])
@pytest.mark.parametrize(("args", "code", "words"), [
    (["start", "nosuch"], 1, "No such container: nosuch"),
    (["stop", "nosuch"], 1, "No such container: nosuch"),
    (["logs", "nosuch"], 1, "No such container: nosuch"),
    (["inspect", "nosuch"], 1, "No such object: nosuch"),
    (["exec", "nosuch", "true"], 1, "No such container: nosuch"),
    (["rename", "web", "a b"], 1, "Invalid container name (a b)"),
    (["kill", "-s", "FLY", "web"], 1, "FLY"),
    (["update", "-m", "1m", "web"], 1, "Minimum memory limit allowed is 6MB"),
    (["update", "--cpuset-cpus", "99", "web"], 1, "Requested CPUs are not available"),
    (["rm", "web"], 1, 'cannot remove container "/web": container is running'),
    (["rmi", "busybox"], 1, "busybox"),
    (["rmi", "nosuch"], 1, "No such image: nosuch:latest"),
    (["tag", "nosuch", "other"], 1, "No such image: nosuch:latest"),
    (["tag", "busybox", "Not Valid"], 1, "Not Valid"),
    (["ps", "--filter", "fly=1"], 1, "fly"),
    (["ps", "--nosuch"], 125, "unknown flag: --nosuch"),
    (["volume", "create", "a b"], 1, "includes invalid characters"),
    (["volume", "rm", "nosuch"], 1, "no such volume"),
    (["top", "web", "--nosuch"], 1, ""),
    (["wait", "nosuch"], 1, "No such container: nosuch"),
    (["fly"], 1, "fly"),
])
def test_other_commands(engine: Engine, command: Any, args: list[str], code: int, words: str) -> None:
    done = command(engine, *args)
    assert done.returncode == code and words in sentence(done), done
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_port_of_another_container(engine: Engine, address: str) -> None:
    port = engine.docker("port", "web", "80").stdout.strip().rpartition(":")[2]
    done = by_docker(engine, "run", "--rm", "-p", f"{address}:{port}:80", "busybox", "true")
    assert done.returncode == 125 and f"Bind for {address}:{port} failed: port is already allocated" in done.stderr


def test_port_of_a_process_of_the_host(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for publish in (f"{port}:80", f"127.0.0.1:{port}:80"):
            done = by_docker(engine, "run", "--rm", "-p", publish, "busybox", "true")
            assert done.returncode == 125 and f":{port} failed: port is already allocated" in done.stderr


def test_a_container_that_cannot_start_stays_created_and_says_why(engine: Engine) -> None:
    port = engine.docker("port", "web", "80").stdout.strip()
    done = by_docker(engine, "run", "-d", "--name", "late", "-p", f"{port}:80", "busybox", "true")
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("Run ")]
    assert done.returncode == 125 and len(lines) == 1 and "port is already allocated" in lines[0]
    state = engine.state("late")
    assert state["Status"] == "created" and "port is already allocated" in state["Error"] and state["Pid"] == 0
    engine.docker("rm", "late")


def test_no_permission_on_the_socket(engine: Engine) -> None:
    assert os.stat(engine.socket).st_mode & 0o777 == 0o660
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    os.chmod(engine.directory, 0o755)
    commands = [["docker", "ps"]]
    if subprocess.run([*nobody, "test", "-r", errors.__file__], check=False).returncode == 0:  # not below /root
        commands.append([sys.executable, "-m", "sampan.cli", "-H", f"unix://{engine.socket}", "ps"])
    for command in commands:
        environment = {**engine.environment, "DOCKER_CONFIG": "/nonexistent"}
        done = subprocess.run([*nobody, *command], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "permission denied" in done.stderr and engine.socket in done.stderr
        assert "Traceback" not in done.stderr


def test_no_engine_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sampan.cli", "-H", f"unix://{tmp_path}/none", "ps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"{tmp_path}/none" in done.stderr and "Traceback" not in done.stderr


def test_what_this_kernel_cannot_do(engine: Engine) -> None:
    """Real-time scheduling of groups needs a kernel built for it, and time set aside for the parent group."""
    done = by_docker(engine, "run", "--rm", "--cpu-rt-runtime", "1000", "busybox", "true")
    assert done.returncode == 125 and re.search(r"real-time|rt_runtime", done.stderr)


# -- what no docker command sends

@pytest.mark.parametrize(("body", "words"), [
    ({}, "no image specified"),
    ({"Image": 5}, "Expected `str`, got `int` - at `Config.Image`"),
    ({"Image": "busybox", "Cmd": {"a": 1}}, "Config.Cmd"),
    ({"Image": "busybox", "Cmd": [1]}, "Config.Cmd[0]"),
    ({"Image": "busybox", "Env": "A=b"}, "Config.Env"),
    ({"Image": "busybox", "Cmd": ["true"], "Env": ["=b"]}, "invalid environment variable: =b"),
    ({"Image": "busybox", "Cmd": ["a\0b"]}, "NUL"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": []}, "HostConfig"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Memory": "64m"}}, "HostConfig.Memory"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Memory": 1 << 70}}, "HostConfig.Memory"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Memory": -5}}, "Minimum memory limit"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"PortBindings": {"80": [{"HostPort": 80}]}}}, "PortBindings"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"PortBindings": {"fly": []}}}, "fly"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["/"]}}, "invalid volume specification: '/'"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["a:b:c:d"]}}, "invalid volume specification"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "bind", "Target": "/x"}]}}, "Source"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Devices": [{"PathOnHost": 3}]}}, "Devices[0].PathOnHost"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"RestartPolicy": {"Name": "fly"}}}, "fly"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Sysctls": {"kernel.panic": "1"}}}, "kernel.panic"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Sysctls": {"net.ipv4/../../kernel.panic": "1"}}}, "sysctl"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Ulimits": [{"Name": "fly", "Soft": 1, "Hard": 1}]}}, "fly"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"SecurityOpt": ["seccomp={"]}}, "seccomp"),
    ({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"SecurityOpt": ["fly"]}}, "fly"),
    ({"Image": "busybox", "Cmd": ["true"], "StopSignal": "FLY"}, "FLY"),
    ({"Image": "busybox", "Cmd": ["true"], "Healthcheck": 7}, "Config.Healthcheck"),
    ({"Image": "busybox", "Cmd": ["true"], "NetworkingConfig": {"EndpointsConfig": [1]}}, "EndpointsConfig is"),
    ({"Image": "sha256:" + "0" * 64, "Cmd": ["true"]}, "No such image: sha256:000"),
    ({"Image": "../../etc", "Cmd": ["true"]}, "invalid reference format"),
])
def test_create_body(engine: Engine, body: dict[str, Any], words: str) -> None:
    status, answer = engine.request("POST", "/containers/create", body)
    assert status == (404 if "No such image" in words else 400), answer
    assert words in answer["message"] and "\n" not in answer["message"] and len(answer["message"]) < 400


@contextlib.contextmanager
def sent(engine: Engine, method: str, path: str, body: bytes, **headers: str) -> Iterator[http.client.HTTPResponse]:
    connection = engine.connect()
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


@pytest.mark.parametrize(("body", "words"), [
    (b"", "EOF"), (b"{", "invalid JSON"), (b"[]", "object"), (b'"x"', "object"), (b"null", "no image specified"),
    (b'{"Image": "a"} {}', "invalid JSON"), (b'{"Image": "\xff"}', "invalid JSON"), (b"{" * 10, "invalid JSON"),
    (b'{"Cmd":' * 500 + b"1" + b"}" * 500, "nested deeper than"),
    (b'{"Cmd":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid JSON"),
    (b'{"Image": "busybox", "Memory": ' + b"9" * 5000 + b"}", "invalid"),
])
def test_json_that_is_none(engine: Engine, body: bytes, words: str) -> None:
    with sent(engine, "POST", "/v1.47/containers/create", body) as answer:
        message = json.loads(answer.read())["message"]
    assert answer.status == 400 and words in message and len(message) < 300


def test_huge_json_is_not_read(engine: Engine) -> None:
    with engine.connect().sock as sock:
        sock.sendall(
            b"POST /v1.47/containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000000000\r\n\r\n{"
        )
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        assert answer.status == 400 and "larger than the" in json.loads(answer.read())["message"]


def test_large_json_is_taken_to_its_limit(engine: Engine) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "Env": [f"V{n}={'x' * 1000}" for n in range(9000)]}
    status, answer = engine.request("POST", "/containers/create", body)
    assert status == 201
    engine.ask("DELETE", f"/containers/{answer['Id']}")


def test_other_content_type(engine: Engine) -> None:
    with sent(engine, "POST", "/v1.47/containers/create", b"a=b", **{"Content-Type": "text/plain"}) as answer:
        assert answer.status == 400 and "Content-Type" in json.loads(answer.read())["message"]


@pytest.mark.parametrize(("method", "path", "status", "words"), [
    ("GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.50"),
    ("GET", "/v1.5/info", 400, "client version 1.5 is too old. Minimum supported API version is 1.24"),
    ("GET", "/v1.47/nosuch", 404, "page not found"),
    ("GET", "/vx/info", 404, "page not found"),
    ("GET", "/", 404, "page not found"),
    ("POST", "/v1.47/info", 404, "page not found"),
    ("DELETE", "/v1.47/containers/json", 404, "json"),
    ("GET", "/v1.47/containers/json?filters=%7B", 400, "filter"),
    ("GET", "/v1.47/containers/json?limit=x", 400, "limit"),
    ("GET", "/v1.47/containers/..%2f..%2fetc/json", 404, "No such container"),
    ("GET", "/v1.47/containers/web/logs", 400, "choose at least one stream"),
    ("POST", "/v1.47/containers/web/resize?h=x&w=1", 400, "invalid value for h"),
    ("POST", "/v1.47/containers/web/kill?signal=FLY", 400, "FLY"),
    ("POST", "/v1.47/containers/web/stop?t=x", 400, "x"),
    ("POST", "/v1.47/containers/create?name=%00", 400, "name"),
    ("GET", "/v1.47/events?since=never", 400, "never"),
    ("GET", "/v1.47/images/json?filters=%5B%5D", 400, "filter"),
])
def test_routes(engine: Engine, method: str, path: str, status: int, words: str) -> None:
    body = json.dumps({"Image": "busybox", "Cmd": ["true"]}).encode() if method == "POST" else b""
    with sent(engine, method, path, body) as answer:
        text = answer.read()
    assert (answer.status, words in json.loads(text)["message"]) == (status, True), text


@pytest.mark.parametrize("head", [
    b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /info HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n", b"\0" * 100 + b"\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
])
def test_what_is_not_http(engine: Engine, head: bytes) -> None:
    with engine.connect().sock as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head)
        with sock.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 4")
    assert engine.request("GET", "/info")[0] == 200
