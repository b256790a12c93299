"""What every chapter gets: the page to write on, a shell, the engine of this lesson, and a place for files."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import host
from page import Page
from shell import Shell

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ["SAMPAN_CACHE"])
BRIDGE = f"lesson{os.getpid() % 100000}"
CONTAINERS = ("web", "hog", "bomb", "burn", "deaf", "polite", "stubborn")
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Lesson:
    """`program`: "sampan", or "docker" with an engine that is somebody else's. `port`: of the host, free."""

    page: Page
    shell: Shell
    directory: Path
    program: str
    watch: host.Watch
    engine: subprocess.Popen[bytes] | None = None
    port: int = 8080

    @property
    def own(self) -> bool:
        return self.program == "sampan"

    def inspect(self, container: str, template: str) -> str:
        return self.shell.ask(f"sampan inspect -f '{template}' {container}")

    def pid(self, container: str) -> int:
        return int(self.inspect(container, "{{.State.Pid}}"))


def begin() -> Lesson:
    """The lesson's directory and, unless another engine is to be driven, its own engine's address."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    directory = Path(tempfile.mkdtemp(prefix="sampan-lesson.", dir="/tmp"))
    program = os.environ.get("CLI", "sampan")
    address = f"unix://{directory}/sampan.sock"
    if program != "sampan":
        address = os.environ["DOCKER_HOST"]
    environment = {
        "SAMPAN_HOST": address,
        "DOCKER_HOST": address,
        "DOCKER_CONFIG": str(directory),
        "PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    page = Page()
    shutil.copytree(CHECKOUT / "examples" / "httpd", directory / "httpd")
    for name in ("debian", "busybox"):
        (directory / f"{name}.tar").symlink_to(CACHE / "images" / f"{name}.tar")
    watch = host.Watch(BRIDGE, {str(directory), BRIDGE})
    return Lesson(page, Shell(page, program, environment, directory), directory, program, watch, port=_free_port())


def start_engine(lesson: Lesson) -> None:
    """`sampan serve` in the background. Returns when it answers; the lesson cannot go on without."""
    address, directory = lesson.shell.environment["SAMPAN_HOST"], lesson.directory
    options = {
        "--data-root": f"{directory}/data", "--exec-root": f"{directory}/run", "--bridge": BRIDGE,
        "--bip": _free_subnet(), "--cgroup-parent": f"/{BRIDGE}", "--pidfile": f"{directory}/pid",
    }
    words = [f"{name} {value}".replace(str(directory), ".") for name, value in options.items()]
    shown = f"sampan serve -H unix://$PWD/sampan.sock {' '.join(words[:2])} \\\n    {' '.join(words[2:])} &"
    lesson.page.command(f"{shown}\nexport SAMPAN_HOST=unix://$PWD/sampan.sock")
    began = time.monotonic()
    with open(directory / "engine.log", "wb") as log:
        lesson.engine = subprocess.Popen(
            [f"{CHECKOUT}/.venv/bin/sampan", "serve", "-H", address, *itertools.chain(*options.items())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, start_new_session=True,
        )
    while not _answers(address.removeprefix("unix://")):
        if lesson.engine.poll() is not None or time.monotonic() > began + 20:
            raise SystemExit(f"the engine does not start:\n{(directory / 'engine.log').read_text()}")
        time.sleep(0.01)
    lesson.page.claim(f"the engine answers {1000 * (time.monotonic() - began):.0f} ms after its start", True)


def stop_engine(lesson: Lesson) -> int:
    """SIGTERM, as systemd would. Its exit code."""
    assert lesson.engine is not None
    lesson.engine.terminate()
    try:
        return lesson.engine.wait(20)
    except subprocess.TimeoutExpired:
        lesson.engine.kill()
        return lesson.engine.wait()


def sweep(lesson: Lesson) -> None:
    """Whatever happened: no container, engine or file of the lesson stays."""
    if lesson.engine is None or lesson.engine.poll() is None:
        lesson.shell.ask("sampan rm -f $(sampan ps -aq)" if lesson.own else f"sampan rm -f {' '.join(CONTAINERS)}")
    if lesson.engine is not None and lesson.engine.poll() is None:
        stop_engine(lesson)
    lesson.watch.close()
    for process in host.take()["processes"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split()[-1]), signal.SIGKILL)
    host.remove_cgroups(BRIDGE)
    host.remove_network(BRIDGE)
    shutil.rmtree(lesson.directory, ignore_errors=True)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: lesson\r\nConnection: close\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


def _free_port() -> int:
    """8080, or the next one that nobody has."""
    for port in range(8080, 8180):
        with socket.socket() as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise SystemExit("no free port from 8080 to 8179")


def _free_subnet() -> str:
    """The bridge's address in a network that the host has no route to."""
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
    for third in range(200, 255):
        if f"172.31.{third}." not in routes:
            return f"172.31.{third}.1/24"
    raise SystemExit("no free network from 172.31.200.0 to 172.31.254.0")
