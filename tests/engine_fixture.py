"""A real engine for a test: its own data root, exec root, socket, bridge, address range, cgroup parent, and an image.

    with engine() as boat:
        boat.docker("run", "--rm", "busybox", "true")
        boat.request("GET", "/containers/json")

`busybox:latest` is there: Debian's busybox-static and an /etc with root and `sailor` (uid 1000). When the block ends,
nothing of it is left on the host. `boat.kill()` and `boat.start()` are for tests of its death.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
PATIENCE = 60.0  # seconds until a test gives up on something that should have happened at once
_numbers = itertools.count()


@dataclass
class Engine:
    """One engine after another on the same roots."""

    directory: Path
    bridge: str
    bip: str
    cgroup_parent: str
    arguments: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.directory / "s")

    @property
    def data_root(self) -> Path:
        return self.directory / "data"

    @property
    def exec_root(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> str:
        """What the engines said so far."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; returns once it answers."""
        ready, tell = os.pipe()
        command = [
            sys.executable, "-m", "sampan.cli", "serve", "-H", f"unix://{self.socket}", "--data-root",
            str(self.data_root), "--exec-root", str(self.exec_root), "--bridge", self.bridge, "--bip", self.bip,
            "--cgroup-parent", self.cgroup_parent, "--pidfile", str(self.directory / "pid"), *self.arguments,
        ]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[tell],
                env={**os.environ, "SAMPAN_READY_FD": str(tell)}, start_new_session=True,
            )
        os.close(tell)
        said = os.read(ready, 16) if select.select([ready], [], [], PATIENCE)[0] else b""
        os.close(ready)
        if not said:
            self.kill()
            raise AssertionError(f"the engine did not start:\n{self.log}")

    def stop(self) -> None:
        """End it as a service manager does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to say anything; its helpers end by themselves."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self.process is not None:
            helpers = [_pidfd(pid) for pid in self.helpers()]
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None
            for fd in helpers:
                if fd is not None:
                    assert select.select([fd], [], [], PATIENCE)[0], f"a helper outlives the engine\n{self.log}"
                    os.close(fd)

    def helpers(self) -> list[int]:
        """The pids of the engine's own children: launcher, worker, netpool."""
        if self.process is None or self.process.poll() is not None:
            return []
        return children(self.process.pid)

    def helper(self, module: str) -> int:
        """The pid of one of them by its module, "sampan.shim.launcher"."""
        for pid in self.helpers():
            if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        raise AssertionError(f"no {module} among the engine's children")

    # -- talking to it

    def docker(self, *args: str, check: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
        """The real docker command. With `check` it must succeed."""
        done = subprocess.run(
            ["docker", *args], env=self.environment, capture_output=True, text=True, timeout=PATIENCE, **how
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log}")
        return done

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.directory / "cli")}

    def remove_containers(self) -> None:
        """All of them, running ones too, with their anonymous volumes."""
        for container in self.ask("GET", "/containers/json?all=1"):
            self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def connect(self) -> http.client.HTTPConnection:
        """A connection of one's own; close it."""
        connection = http.client.HTTPConnection("sampan", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(self.socket)
        return connection

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, decoded body) of one API call."""
        connection = self.connect()
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, f"/v1.47{path}", data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.strip() else None
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded body of a call that must succeed."""
        status, answer = self.request(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer}\n{self.log}"
        return answer

    def create(self, *command: str, name: str = "", image: str = "busybox", **body: Any) -> str:
        """The id of a new container."""
        query = f"?name={name}" if name else ""
        made = self.ask("POST", f"/containers/create{query}", {"Image": image, "Cmd": list(command), **body})
        return str(made["Id"])

    def run(self, *command: str, name: str = "", **body: Any) -> str:
        """The id of a container that has been started."""
        id = self.create(*command, name=name, **body)
        self.ask("POST", f"/containers/{id}/start")
        return id

    def inspect(self, ref: str) -> Any:
        return self.ask("GET", f"/containers/{ref}/json")

    def state(self, ref: str) -> Any:
        return self.inspect(ref)["State"]

    def wait(self, ref: str, condition: str = "not-running") -> int:
        """The exit code."""
        return int(self.ask("POST", f"/containers/{ref}/wait?condition={condition}")["StatusCode"])

    def import_image(self, name: str, files: bytes) -> None:
        """Make an image of a root file system's tar."""
        connection = self.connect()
        try:
            repository, _, tag = name.partition(":")
            path = f"/v1.47/images/create?fromSrc=-&repo={repository}&tag={tag or 'latest'}"
            connection.request("POST", path, files, {"Content-Type": "application/x-tar"})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status == 200 and "error" not in text, f"{answer.status} {text}\n{self.log}"
        finally:
            connection.close()


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def busybox_tar() -> bytes:
    """A root file system: busybox with a link for each of its names, /etc/passwd and /etc/group."""
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("home", 0o755)):
            _add(tar, path, mode, tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, content=BUSYBOX.read_bytes())
        for name in names:
            if name != "busybox":
                _add(tar, f"bin/{name}", 0o777, tarfile.SYMTYPE, link="busybox")
        passwd = b"root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home:/bin/sh\n"
        _add(tar, "etc/passwd", 0o644, content=passwd)
        _add(tar, "etc/group", 0o644, content=b"root:x:0:\ncrew:x:20:sailor\nsailor:x:1000:\n")
    return out.getvalue()


def _add(
    tar: tarfile.TarFile, name: str, mode: int, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size, entry.linkname = mode, kind, len(content), link
    tar.addfile(entry, io.BytesIO(content) if content else None)


@contextlib.contextmanager
def engine(*arguments: str, image: bool = True, data_root: Path | None = None) -> Iterator[Engine]:
    """An engine that answers, with the image `busybox`. `arguments` are further ones of `sampan serve`.

    The end of the block ends its containers and removes all of it.
    """
    number = next(_numbers)
    directory = Path(tempfile.mkdtemp(prefix="se-", dir="/tmp"))
    if data_root is not None:
        (directory / "data").symlink_to(data_root)
    on_tmpfs = Path(tempfile.mkdtemp(prefix="se-", dir="/run"))  # as an engine's exec root usually is
    (directory / "run").symlink_to(on_tmpfs)
    unique = f"{os.getpid() % 10000}{number}"
    made = Engine(
        directory, f"st{unique}", f"10.{200 + os.getpid() % 50}.{number % 250}.1/24",
        f"sampan-test-{os.getpid()}-{number}", list(arguments),
    )
    try:
        made.start()
        if image:
            made.import_image("busybox", busybox_tar())
        yield made
    finally:
        _tear_down(made)
        shutil.rmtree(on_tmpfs)


def _tear_down(made: Engine) -> None:
    try:
        if made.process is None or made.process.poll() is not None:
            made.start()
        made.remove_containers()
        made.stop()
    finally:
        made.kill()
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            with contextlib.suppress(OSError):
                (hierarchy / made.cgroup_parent).rmdir()
        shutil.rmtree(made.directory, ignore_errors=True)
