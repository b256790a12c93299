"""docker-py (the `docker` package) against the engine: what scripts, testcontainers and CI tools are made of."""

from __future__ import annotations

import io
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import pytest
from docker.models.containers import Container

from engine_fixture import Engine

pytestmark = pytest.mark.usefixtures("tidy")

TALKS = "echo out; echo err >&2; exit 3"
HEARS = ["sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 1000 & wait; done"]


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}", timeout=30)
    with closing(client):
        yield client


@pytest.fixture
def running(client: docker.DockerClient) -> Container:
    container = client.containers.run("busybox", HEARS, detach=True, name="web", labels={"tier": "front"})
    assert next(container.logs(stream=True)) == b"ready\n"
    return container


# -- containers

def test_run_returns_the_output(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", "echo hello world", remove=True) == b"hello world\n"
    assert client.containers.run("busybox", ["sh", "-c", TALKS.replace("3", "0")], stderr=True) == b"out\nerr\n"
    assert client.containers.list() == [] and len(client.containers.list(all=True)) == 1


def test_run_raises_with_exit_code_and_stderr(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", TALKS], remove=True)
    assert caught.value.exit_status == 3 and caught.value.stderr == b"err\n"
    with pytest.raises(docker.errors.NotFound):
        client.containers.run("no-such-image-here", "true")
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run("busybox", "nosuch", remove=True)


def test_many_options(client: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("of the host")
    tmp_path.chmod(0o755)
    said = client.containers.run(
        "busybox", ["sh", "-c", "cat /h/f; echo; echo $A; id -u; hostname; pwd; ls /t; ulimit -n; cat /etc/hosts"],
        environment={"A": "b"}, user=1000, hostname="ship", working_dir="/tmp", tmpfs={"/t": "size=1m"}, remove=True,
        volumes={str(tmp_path): {"bind": "/h", "mode": "ro"}}, mem_limit="64m", nano_cpus=500_000_000, pids_limit=99,
        ulimits=[docker.types.Ulimit(name="nofile", soft=77, hard=88)], cap_drop=["ALL"], read_only=True, init=True,
        extra_hosts={"port": "192.0.2.1"}, security_opt=["no-new-privileges"], dns=["192.0.2.2"], shm_size="1m",
        mounts=[docker.types.Mount("/m", None, type="tmpfs")], sysctls={"net.ipv4.ip_default_ttl": "77"},
    )
    assert said.startswith(b"of the host\nb\n1000\nship\n/tmp\n77\n") and b"192.0.2.1\tport" in said


def test_life(client: docker.DockerClient, running: Container) -> None:
    assert running.status == "created"  # docker-py: from before its start
    running.reload()
    assert running.status == "running" and running.short_id == running.id[:12] and running.labels == {"tier": "front"}
    assert running.image.tags == ["busybox:latest"]
    running.pause()
    running.reload()
    assert running.status == "paused"
    running.unpause()
    running.rename("site")
    assert client.containers.get("site") == running
    assert client.containers.list(filters={"label": "tier=front", "status": "running"}) == [running]
    running.update(mem_limit="32m", memswap_limit="64m")
    running.stop()
    assert running.wait() == {"StatusCode": 4}
    running.restart(timeout=0)
    running.kill("SIGKILL")
    assert running.wait()["StatusCode"] == 137
    running.remove()
    with pytest.raises(docker.errors.NotFound, match="No such container: site"):
        client.containers.get("site")


def test_conflict_and_bad_request(client: docker.DockerClient, running: Container) -> None:
    for arguments, status, words in (
        ({"name": "web"}, 409, 'Conflict. The container name "/web" is already in use by container'),
        ({"name": "-"}, 400, "Invalid container name (-)"),
        ({"mem_limit": "1m"}, 400, "Minimum memory limit allowed is 6MB"),
        ({"network_mode": "nosuch"}, 400, "nosuch"),
        ({"cap_add": ["FLY"]}, 400, "CAP_FLY"),
    ):
        with pytest.raises(docker.errors.APIError) as caught:
            client.containers.create("busybox", "true", **arguments)
        assert caught.value.status_code == status and words in caught.value.explanation
    assert client.containers.list(all=True) == [running]


def test_wait_for_removal(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "exit 6"], auto_remove=True)
    found: list[Any] = []
    waiter = threading.Thread(target=lambda: found.append(container.wait(condition="removed")))
    waiter.start()
    container.start()
    waiter.join(20)
    assert not found or found[0]["StatusCode"] == 6  # it may have come after the end


def test_logs(client: docker.DockerClient, running: Container) -> None:
    ended = client.containers.run("busybox", ["sh", "-c", TALKS], detach=True)
    assert ended.wait()["StatusCode"] == 3
    assert ended.logs() == b"out\nerr\n"
    assert ended.logs(stderr=False) == b"out\n" and ended.logs(stdout=False) == b"err\n"
    assert ended.logs(tail=0) == b"" and ended.logs(timestamps=True).count(b"Z ") == 2
    assert sorted(ended.logs(stream=True)) == [b"err\n", b"out\n"]
    lines = running.logs(stream=True, follow=True)
    assert next(lines) == b"ready\n"
    running.stop()
    assert list(lines) == []


def test_exec_run(running: Container) -> None:
    assert running.exec_run("echo hello") == (0, b"hello\n")
    assert running.exec_run(["sh", "-c", TALKS], demux=True) == (3, (b"out\n", b"err\n"))
    said = running.exec_run(["sh", "-c", "echo $A; pwd; id -u"], environment={"A": "b"}, workdir="/tmp", user="sailor")
    assert said == (0, b"b\n/tmp\n1000\n")
    code, chunks = running.exec_run(["sh", "-c", "echo one; sleep 0.05; echo two"], stream=True)
    assert code is None and b"".join(chunks) == b"one\ntwo\n"
    code, pairs = running.exec_run(["sh", "-c", TALKS], stream=True, demux=True)
    assert sorted(pairs, key=str) == [(None, b"err\n"), (b"out\n", None)]
    assert running.exec_run("nosuch")[0] == 127
    assert running.exec_run("tty", tty=True) == (0, b"/dev/pts/0\r\n")
    assert running.exec_run("sleep 1000", detach=True)[0] is None
    assert [row[-1] for row in running.top()["Processes"]][1:] == ["sleep 1000"] * 2


def test_exec_socket(client: docker.DockerClient, running: Container) -> None:
    id = client.api.exec_create(running.id, "cat", stdin=True)["Id"]
    stream = client.api.exec_start(id, socket=True)
    with closing(stream):
        stream._sock.sendall(b"through\n")
        stream._sock.shutdown(socket.SHUT_WR)
        assert frames(stream) == [(1, b"through\n")]
    assert client.api.exec_inspect(id)["ExitCode"] == 0 and client.api.exec_inspect(id)["Running"] is False


def test_attach_socket(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "cat; echo end >&2"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    with closing(stream):
        container.start()
        stream._sock.sendall(b"in\n")
        assert frames(stream, 1) == [(1, b"in\n")]
        stream._sock.shutdown(socket.SHUT_WR)
    container.attach()
    container.stop(timeout=0)
    terminal = client.containers.create("busybox", "sh", stdin_open=True, tty=True)
    stream = terminal.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    with closing(stream):
        terminal.start()
        terminal.resize(11, 22)
        stream._sock.sendall(b"stty size; exit 5\n")
        said = b""
        while data := stream._sock.recv(4096):
            said += data
    assert b"11 22\r\n" in said and terminal.wait()["StatusCode"] == 5


def frames(stream: Any, count: int = 99) -> list[tuple[int, bytes]]:
    found = []
    while len(found) < count and len(header := read(stream, 8)) == 8:
        kind, length = struct.unpack(">BxxxL", header)
        found.append((kind, read(stream, length)))
    return found


def read(stream: Any, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := stream._sock.recv(length - len(data))):
        data += more
    return data


def test_attach_as_a_stream(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", TALKS])
    output = container.attach(stream=True, demux=True)
    container.start()
    assert sorted(output, key=str) == [(None, b"err\n"), (b"out\n", None)]


# -- files, figures, news

def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o640, 1000, 20
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def test_archives(running: Container) -> None:
    assert running.put_archive("/tmp", tar_of(one=b"1", two=b"22")) is True
    assert running.exec_run("stat -c '%a %u:%g %s' /tmp/two") == (0, b"640 1000:20 2\n")
    chunks, found = running.get_archive("/tmp/two")
    assert found["name"] == "two" and found["size"] == 2 and found["mode"] == 0o640
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.getnames() == ["two"] and tar.extractfile("two").read() == b"22"  # type: ignore[union-attr]
    with pytest.raises(docker.errors.NotFound, match="Could not find the file /nothing in container web"):
        running.get_archive("/nothing")
    with pytest.raises(docker.errors.NotFound):
        running.put_archive("/nothing", tar_of(x=b""))
    with pytest.raises(docker.errors.APIError, match="not a directory"):
        running.put_archive("/etc/passwd", tar_of(x=b""))
    assert {"Path": "/tmp/two", "Kind": 1} in running.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(running.export()))) as tar:
        assert "tmp/two" in tar.getnames()


def test_stats(running: Container) -> None:
    stats = running.stats(stream=False)
    assert stats["name"] == "/web" and stats["memory_stats"]["usage"] > 0 and stats["pids_stats"]["current"] == 2
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and "eth0" in stats["networks"]
    assert stats["precpu_stats"]["cpu_usage"]["total_usage"] <= stats["cpu_stats"]["cpu_usage"]["total_usage"]
    stream = running.stats(decode=True)
    first, second = next(stream), next(stream)
    assert second["read"] > first["read"] and second["precpu_stats"]["system_cpu_usage"] > 0
    stream.close()


def test_events(client: docker.DockerClient) -> None:
    events = client.events(decode=True, filters={"type": "container", "event": ["create", "start", "die", "destroy"]})
    with closing(events):
        container = client.containers.run("busybox", "true", detach=True, name="brief")
        container.wait()
        container.remove()
        seen = [next(events) for _ in range(4)]
    assert [event["Action"] for event in seen] == ["create", "start", "die", "destroy"]
    assert all(event["Actor"]["Attributes"]["name"] == "brief" and event["id"] == container.id for event in seen)
    assert seen[2]["Actor"]["Attributes"]["exitCode"] == "0" and seen[0]["timeNano"] < seen[3]["timeNano"]


# -- images, networks, volumes, system

def test_images(client: docker.DockerClient, running: Container, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG WHO\nLABEL who=$WHO\nCOPY file /\nRUN echo built > /b\n")
    image, log = client.images.build(path=str(tmp_path), tag="made:v1", buildargs={"WHO": "me"}, rm=True)
    assert image.tags == ["made:v1"] and image.labels == {"who": "me"}
    assert any("Successfully built" in entry.get("stream", "") for entry in log)
    assert client.containers.run("made:v1", "cat /file /b", remove=True) == b"content\nbuilt\n"
    assert sorted(tag for it in client.images.list() for tag in it.tags) == ["busybox:latest", "made:v1"]
    assert image.tag("other", "v2") and client.images.get("other:v2").id == image.id
    assert len(image.history()) >= 4 and len(image.attrs["RootFS"]["Layers"]) == 3
    saved = b"".join(image.save(named=True))
    client.images.remove("other:v2")
    client.images.remove("made:v1")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("made:v1")
    (loaded,) = client.images.load(saved)
    assert loaded.id == image.id
    committed = running.commit("kept", "v1", changes="ENV A=b")
    assert "A=b" in committed.attrs["Config"]["Env"]
    for tag in ("made:v1", "kept:v1"):
        client.images.remove(tag)
    with pytest.raises(docker.errors.APIError):
        client.images.remove("busybox")


def test_build_that_fails(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.BuildError, match="returned a non-zero code: 5") as caught:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo said; exit 5\n"), rm=True)
    assert any("said" in entry.get("stream", "") for entry in caught.value.build_log)
    with pytest.raises(docker.errors.APIError, match="Dockerfile:2: unknown instruction: FLY"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nFLY away\n"))
    assert len(client.images.list(all=True)) == 1


def test_networks(client: docker.DockerClient, running: Container) -> None:
    networks = {network.name: network for network in client.networks.list()}
    assert set(networks) == {"bridge", "host", "none"}
    running.reload()
    networks["bridge"].reload()
    assert [container.id for container in networks["bridge"].containers] == [running.id]
    address = running.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert networks["bridge"].attrs["Containers"][running.id]["IPv4Address"].startswith(f"{address}/")


def test_ports(client: docker.DockerClient) -> None:
    ports = {"80/tcp": None, "53/udp": ("127.0.0.1", 0)}
    container = client.containers.run("busybox", "sleep 1000", detach=True, ports=ports)
    container.reload()
    addresses = {port: bound[0]["HostIp"] for port, bound in container.ports.items()}
    assert addresses == {"80/tcp": "0.0.0.0", "53/udp": "127.0.0.1"}
    assert all(int(bound[0]["HostPort"]) > 1023 for bound in container.ports.values())


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("cargo", labels={"a": "b"})
    assert client.volumes.list(filters={"label": "a=b"}) == [volume] and Path(volume.attrs["Mountpoint"]).is_dir()
    client.containers.run("busybox", "touch /v/x", volumes={"cargo": {"bind": "/v", "mode": "rw"}}, remove=True)
    held = client.containers.create("busybox", "true", volumes=["cargo:/v"])
    with pytest.raises(docker.errors.APIError, match="volume is in use"):
        volume.remove()
    held.remove()
    assert client.volumes.prune(filters={"all": True})["VolumesDeleted"] == ["cargo"]
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("cargo")


def test_system(client: docker.DockerClient, running: Container) -> None:
    assert client.ping() and client.info()["ContainersRunning"] == 1 and client.version()["Os"] == "linux"
    assert [it["Id"] for it in client.df()["Containers"]] == [running.id]
    running.kill()
    assert client.containers.prune()["ContainersDeleted"] == [running.id]
