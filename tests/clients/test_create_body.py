"""`sampan create` and `run` send what the docker command sends: both talk to a server that notes what it hears."""

from __future__ import annotations

import json
import shlex
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sampan.cli.main import main

DOCKER = shutil.which("docker")
pytestmark = [
    pytest.mark.skipif(DOCKER is None, reason="needs the docker command"),
    pytest.mark.docker_client("28"),  # another version sends other members
]

SAME = r"""
create busybox
create busybox ls -l --color=auto
create -it busybox sh
create -i busybox
create -a stdin -a STDOUT -i busybox cat
create -a stderr busybox
run -d busybox sleep 100
run -d -i -t busybox
run -t busybox
run -i busybox
run --rm busybox true
run -a stdout busybox
run --sig-proxy=false --detach-keys ctrl-x busybox
create --name web busybox
create --name=web --platform linux/amd64 busybox
create -e A=b -e B= -e NOT_SET_ANYWHERE -e HOME -e C=d=e busybox
create -e=A=b -eB=c busybox
create --env-file {dir}/env -e A=over busybox
create -w /x -u 1000:1000 --workdir=/y busybox
create --entrypoint sh busybox -c "echo hi"
create --entrypoint "" busybox ls
create -h box --domainname example.org busybox
create -l a -l b=c --label d=e=f --label-file {dir}/labels busybox
create --annotation a=b busybox
create -p 80 busybox
create -p 8080:80 busybox
create -p 127.0.0.1:8080:80/udp busybox
create -p 127.0.0.1::80 busybox
create -p [::1]:8080:80 busybox
create -p 8000-8003:80-83 busybox
create -p 8000-8003:80 busybox
create -p 80-82 busybox
create -p 8080:80 -p 8081:80 -p 53:53/udp busybox
create -p published=8080,target=80,protocol=udp busybox
create -P --expose 80 --expose 90-92/udp busybox
create --expose 80/tcp -p 80 busybox
create -v /a:/b busybox
create -v /a:/b:ro -v vol:/c -v /d -v vol2:/e:z,nocopy busybox
create -v ./rel:/x busybox
create -v ~/x:/x busybox
create --volumes-from a --volumes-from b:ro busybox
create --volume-driver local busybox
create --mount type=bind,source=/a,target=/b busybox
create --mount type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave busybox
create --mount type=bind,src=/a,dst=/b,ro=false busybox
create --mount type=bind,src=/a,dst=/b,bind-recursive=disabled busybox
create --mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable busybox
create --mount src=vol,dst=/b,volume-nocopy busybox
create --mount type=volume,dst=/b busybox
create --mount type=volume,src=v,dst=/b,volume-driver=local,volume-opt=type=nfs,volume-opt=o=x,volume-label=a=b i
create --mount type=volume,src=v,dst=/b,volume-subpath=x/y busybox
create --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770 busybox
create --mount type=tmpfs,target=/t busybox
create --mount 'type=bind,"source=/a,b",target=/c' busybox
create --tmpfs /t --tmpfs /u:size=1m,mode=1777 busybox
create --read-only --storage-opt size=1G busybox
create -m 512m busybox
create --memory 1g --memory-swap 2GB --memory-reservation 256MiB --memory-swappiness 10 busybox
create -m 1.5g --memory-swap -1 busybox
create --memory 1000000b --shm-size 64m busybox
create --cpus 0.5 busybox
create --cpus=1.25 --cpuset-cpus 0-1 --cpuset-mems 0 -c 512 busybox
create --cpu-period 100000 --cpu-quota 50000 --cpu-shares 2 busybox
create --cpu-rt-period 1000 --cpu-rt-runtime 900 busybox
create --pids-limit 100 busybox
create --pids-limit -1 busybox
create --pids-limit=0x10 busybox
create --blkio-weight 500 --blkio-weight-device /dev/sda:200 busybox
create --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:1024 busybox
create --device-read-iops /dev/sda:100 --device-write-iops /dev/sda:50 busybox
create --ulimit nofile=1024:2048 --ulimit core=0 --ulimit nproc=10 busybox
create --ulimit memlock=-1:-1 busybox
create --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=65536 busybox
create --cap-add all --cap-add cap_chown --cap-add CHOWN busybox
create --cap-add NET_ADMIN --cap-add sys_time --cap-drop ALL busybox
create --privileged busybox
create --security-opt no-new-privileges --security-opt apparmor=unconfined busybox
create --security-opt no-new-privileges:true --security-opt label=disable busybox
create --security-opt label:disable busybox
create --security-opt seccomp=unconfined busybox
create --security-opt seccomp={dir}/seccomp.json busybox
create --security-opt systempaths=unconfined busybox
create --network none busybox
create --network host busybox
create --net bridge busybox
create --network container:web busybox
create --network foo --ip 10.1.2.3 --ip6 fd00::1 --network-alias a --net-alias b --link-local-ip 169.254.1.1 busybox
create --network name=foo,alias=x,ip=10.1.2.3 --network bar busybox
create --network name=foo,driver-opt=a=b,gw-priority=5 busybox
create --mac-address 92:d0:c6:0a:29:33 busybox
create --link a:b busybox
create --network foo --link a:b busybox
create --network bridge --ip 10.1.2.3 busybox
create --network default busybox
create --dns 8.8.8.8 --dns-search example.org --dns-search . --dns-option use-vc --dns-opt ndots:1 busybox
create --add-host a:1.2.3.4 --add-host b=::1 --add-host c:[::1] --add-host d:host-gateway busybox
create --pid host --ipc host --uts host --userns host --cgroupns host busybox
create --pid container:x --ipc container:y --cgroupns private busybox
create --ipc shareable --cgroup-parent /x busybox
create --device /dev/fuse busybox
create --device /dev/fuse:/dev/x --device /dev/null:r --device /dev/zero:/dev/z:rw busybox
create --device vendor.com/class=name busybox
create --device-cgroup-rule "c 1:3 rwm" busybox
create --gpus all busybox
create --gpus 2 busybox
create --gpus '"device=0,1",capabilities=utility' busybox
create --group-add a --group-add 10 busybox
create --oom-score-adj -500 --oom-kill-disable busybox
create --init busybox
create --init=false busybox
create --stop-signal SIGINT --stop-timeout 3 busybox
create --restart always busybox
create --restart on-failure:5 busybox
create --restart unless-stopped busybox
create --restart "" busybox
create --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 busybox
create --log-driver none busybox
create --health-cmd "curl -f x" --health-interval 5s --health-timeout 1m30s --health-retries 3 busybox
create --health-start-period 2s --health-start-interval 500ms busybox
create --no-healthcheck busybox
create --runtime runc busybox
create --kernel-memory 50m busybox
create --isolation default busybox
create --rm --quiet --pull never busybox
create -- busybox -x
create -it busybox
run -itd busybox
run -d --rm=false --tty=true busybox
run -ditp 80:80 busybox
create --disable-content-trust busybox
create --cidfile {dir}/cid busybox
""".strip().splitlines()

# The real command says no (125) before it asks the engine; so do we.
REFUSED = r"""
create --memory 12x busybox
create --cpus 0.x busybox
create --pids-limit x busybox
create -p 99999:80 busybox
create -p 80:99999 busybox
create -p 80:80/foo busybox
create -p x:80:80 busybox
create -p 80-81:80-82 busybox
create --expose 80:80 busybox
create --env-file /does/not/exist busybox
create --env-file {dir}/badenv busybox
create -e =x busybox
create --mount type=bind,foo busybox
create --mount type=bind,src=/a busybox
create --mount type=bind,src=/a,dst=/b,foo=bar busybox
create --mount type=bind,src=/a,dst=/b,tmpfs-size=1 busybox
create --mount type=tmpfs,dst=/b,tmpfs-mode=99 busybox
create --mount type=bind,src=/a,dst=/b,ro=maybe busybox
create --ulimit foo busybox
create --ulimit foo=1 busybox
create --ulimit nofile=5:1 busybox
create --sysctl kernel.hostname=x busybox
create --device-cgroup-rule x busybox
create --blkio-weight-device sda:200 busybox
create --blkio-weight-device /dev/sda:2 busybox
create --device-read-bps /dev/sda:x busybox
create --device-read-iops /dev/sda:-1 busybox
create --blkio-weight 70000 busybox
create --add-host a busybox
create --add-host a:x busybox
create --dns x busybox
create --network bridge --network foo busybox
create --network host --network-alias x busybox
create --mac-address x busybox
create --pid foo busybox
create --uts foo busybox
create --userns foo busybox
create --cgroupns foo busybox
create --security-opt foo busybox
create --security-opt seccomp=/does/not/exist busybox
create --security-opt seccomp={dir}/env busybox
create --health-interval 3 busybox
create --health-interval -3s busybox
create --no-healthcheck --health-cmd x busybox
create --memory-swappiness 101 busybox
create --log-driver none --log-opt a=b busybox
create --restart on-failure:x busybox
create --rm --restart always busybox
create -a foo busybox
create --attach foo busybox
create --pull sometimes busybox
run --cidfile {dir}/env busybox
create --nope busybox
create -Z busybox
create --name
create --rm=maybe busybox
create --stop-timeout x busybox
create --network foo --network foo busybox
create --oom-score-adj x busybox
run -d -a stdout busybox
""".strip().splitlines()


class Recorder(socketserver.UnixStreamServer):
    heard: list[tuple[str, str, Any]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/_ping"):
            self.respond(200, b"OK")
        else:
            self.server.heard.append((self.command, self.path, json.loads(body) if body else None))
            self.respond(500, b'{"message":"recorded"}')

    def respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("Api-Version", "1.50"), ("Ostype", "linux"), ("Content-Type", "application/json")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "client"

    do_GET = do_POST = do_HEAD = answer


class ThreadingRecorder(socketserver.ThreadingMixIn, Recorder):
    daemon_threads = False
    block_on_close = True


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Recorder]]:
    path = str(tmp_path_factory.mktemp("recorder") / "s")
    server = ThreadingRecorder(path, Handler)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"unix://{path}", server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    (directory / "env").write_text("# comment\nA=file\n  INDENTED=x y \n\nHOME\nNOT_SET_ANYWHERE\nEMPTY=\n")
    (directory / "badenv").write_text("A B=c\n")
    (directory / "labels").write_text("la=1\nlb\n")
    (directory / "seccomp.json").write_text('{\n "defaultAction": "SCMP_ACT_ALLOW",\n "x": ["<", "é"]\n}\n')
    return directory


def words(line: str, files: Path) -> list[str]:
    return shlex.split(line.replace("{dir}", str(files)))


def by_docker(host: str, arguments: list[str], directory: Path) -> int:
    assert DOCKER
    environment = {"HOME": "/root", "PATH": "/usr/bin:/bin", "DOCKER_CONFIG": str(directory)}
    return subprocess.run(
        [DOCKER, "-H", host, *arguments], stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd=directory,
        timeout=30, check=False,
    ).returncode


def by_sampan(host: str, arguments: list[str], directory: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    monkeypatch.chdir(directory)
    return main(["-H", host, *arguments])


def normal(request: tuple[str, str, Any]) -> tuple[str, str, Any]:
    """Without differences that mean nothing: the order of parameters, how a seccomp profile's JSON is escaped; and the
    order of some lists, which the docker command shuffles."""
    method, target, body = request
    path, _, query = target.partition("?")
    for values in ((body or {}).get("Env"), (body or {}).get("HostConfig", {}).get("Binds")):
        if values:
            values.sort()
    for position, option in enumerate((body or {}).get("HostConfig", {}).get("SecurityOpt") or ()):
        if option.startswith("seccomp={"):
            body["HostConfig"]["SecurityOpt"][position] = json.loads(option.removeprefix("seccomp="))
    return method, path, (sorted(query.split("&")), body)


@pytest.mark.parametrize("line", SAME)
def test_same_request(
    line: str, recorder: tuple[str, Recorder], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, server = recorder
    arguments = words(line, files)
    server.heard.clear()
    by_docker(host, arguments, files)
    theirs = [normal(request) for request in server.heard]
    (files / "cid").unlink(missing_ok=True)
    server.heard.clear()
    by_sampan(host, arguments, files, monkeypatch)
    ours = [normal(request) for request in server.heard]
    assert theirs, "the docker command did not ask for a container"
    assert ours == theirs


@pytest.mark.parametrize("line", REFUSED)
def test_same_refusal(
    line: str, recorder: tuple[str, Recorder], files: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, server = recorder
    arguments = words(line, files)
    server.heard.clear()
    theirs = by_docker(host, arguments, files)
    ours = by_sampan(host, arguments, files, monkeypatch)
    assert server.heard == []
    assert ours == theirs
    assert "internal error" not in capsys.readouterr().err
