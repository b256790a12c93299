"""Engines under measurement: each with its own state, socket, network namespace and cgroups, started and ended here."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import processes
import tree
from api import Api

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPAN = str(CHECKOUT / ".venv/bin/sampan")
PATIENCE = 60
CGROUP = f"bench-{os.getpid()}"
"""The parent of the peers' containers."""


@dataclass
class Engine:
    """A running engine. `pid` is the process that was started; `to_first_answer` in seconds."""

    name: str
    directory: Path
    process: subprocess.Popen[bytes]
    to_first_answer: float

    @property
    def socket_path(self) -> str:
        return str(self.directory / "engine.sock")

    def api(self) -> Api:
        return Api(self.socket_path)

    def client(self, program: str, *arguments: str) -> float:
        """Seconds of one run of a command line client. Raises with what it said when it fails."""
        address = f"unix://{self.socket_path}"
        ours = {"DOCKER_HOST": address, "SAMPAN_HOST": address, "DOCKER_CONFIG": str(self.directory)}
        began = time.perf_counter()
        done = subprocess.run(
            [program, *arguments], env=os.environ | ours, stdin=subprocess.DEVNULL, capture_output=True
        )
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {program} {' '.join(arguments)}: {done.stderr.decode()[-500:]}")
        return seconds

    def stop(self) -> None:
        """End it and whatever it started; remove its files."""
        started = processes.tree_of(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        processes.end([pid for pid in started if pid != self.process.pid])
        for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
            if str(self.directory) in (point := line.split()[1]):
                subprocess.run(["umount", "--lazy", point], check=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def start_sampan(number: int) -> Engine:
    """Ours, from this checkout."""
    directory = Path(tempfile.mkdtemp(prefix="bench-sampan.", dir="/tmp"))
    return _start("sampan", directory, [SAMPAN, "serve", *_options(directory, number)])


def start_dockerd(release: str, version: str, number: int) -> Engine:
    """dockerd as Debian has it, in a tree of that release."""
    tree.path(release)
    directory = Path(tempfile.mkdtemp(prefix=f"bench-docker-{version}.", dir="/tmp"))
    program = [str(tree.BENCH / "peers" / "tree"), release, "dockerd"]
    return _start(f"docker {version}", directory, [*program, *_options(directory, number)])


def _options(directory: Path, number: int) -> list[str]:
    return ["--data-root", f"{directory}/data", "--exec-root", f"{directory}/run", "-H", f"unix://{directory}/engine.sock",
            "--bip", f"172.27.{number}.1/24", "--cgroup-parent", f"/{CGROUP}", "--pidfile", f"{directory}/pid",
            "--log-level", "error"]


def _start(name: str, directory: Path, command: list[str]) -> Engine:
    log = (directory / "log").open("wb")
    began = time.perf_counter()
    process = subprocess.Popen(
        [*tree.OWN_NETWORK, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    while not _answers(directory / "engine.sock"):
        if process.poll() is not None or time.perf_counter() - began > PATIENCE:
            raise RuntimeError(f"{name} does not start:\n{(directory / 'log').read_text()[-2000:]}")
        time.sleep(0.002)
    return Engine(name, directory, process, time.perf_counter() - began)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
            sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
            return b" 200 " in sock.recv(64)
        except OSError:
            return False
