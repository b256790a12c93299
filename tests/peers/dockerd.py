"""Debian's dockerd for a test, with our runtime as `sampan`: own roots and socket, no bridge, no firewall rules.

    with dockerd() as daemon:
        daemon("run", "--rm", "--runtime", "sampan", "busybox", "true")

dockerd tells by sd_notify(3) that it listens. It runs in a mount namespace of its own: /etc/subuid and /etc/subgid are
ours there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_fixture import busybox_tar
from peers import runtimes
from peers.runtimes import PATIENCE, Ended

SUBORDINATE = 200000
"""The first host id of containers with `--userns-remap`."""

NO_FORWARDING = "WARNING: IPv4 forwarding is disabled. Networking will not work.\n"

# The daemon's namespace keeps getting the host's mounts and gives none back. /run/containerd and /run/docker are used
# whatever the roots are.
SCRIPT = """\
mount --bind "$1/subuid" /etc/subuid; mount --bind "$1/subgid" /etc/subgid
mount -t tmpfs tmpfs /run/containerd; mount -t tmpfs tmpfs /run/docker
shift; exec "$@"
"""


@dataclass
class Dockerd:
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.directory}/s", "DOCKER_CONFIG": str(self.directory / "cli")}

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-1500:]

    def __call__(self, *arguments: str, check: bool = True, **how: Any) -> Ended:
        """The docker command; `how` goes to subprocess.run. With `check` it must succeed."""
        if "input" not in how:
            how["stdin"] = subprocess.DEVNULL
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, capture_output=True, timeout=PATIENCE, check=False, **how
        )
        # Whether the host forwards packages is none of our business.
        ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode().replace(NO_FORWARDING, ""))
        if check and ended.code:
            raise AssertionError(f"docker {' '.join(arguments)}: {ended.code}\n{ended.out}{ended.err}\n{self.log}")
        return ended

    def run(self, *arguments: str, check: bool = True, **how: Any) -> Ended:
        """`docker run` with our runtime."""
        return self("run", "--runtime", "sampan", *arguments, check=check, **how)

    def inspect(self, ref: str) -> Any:
        return json.loads(self("inspect", ref).out)[0]

    def clear(self) -> None:
        """Remove all containers."""
        if ids := self("ps", "--all", "--quiet").out.split():
            self("rm", "--force", "--volumes", *ids)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"dockerd did not end\n{self.log}") from None


@contextlib.contextmanager
def dockerd(*arguments: str, driver: str = "cgroupfs") -> Iterator[Dockerd]:
    """A daemon that answers, with the image `busybox`; `arguments` are further ones of dockerd, `driver` is that of
    its control groups."""
    directory = Path(tempfile.mkdtemp(prefix="sampan-dockerd-", dir="/tmp"))
    directory.chmod(0o711)
    for name in ("subuid", "subgid"):
        (directory / name).write_text(f"nobody:{SUBORDINATE}:65536\nnogroup:{SUBORDINATE}:65536\n")
    fixed = [path for path in (Path("/run/containerd"), Path("/run/docker")) if not path.exists()]
    for path in fixed:
        path.mkdir()
    made = None
    parent = f"/{directory.name}" if driver == "cgroupfs" else f"{directory.name.replace('-', '')}.slice"
    try:
        options = ("--cgroup-parent", parent, "--exec-opt", f"native.cgroupdriver={driver}")
        made = _start(directory, (*options, *arguments))
        made("import", "-", "busybox", input=busybox_tar())
        yield made
        made.clear()
    finally:
        if made is not None:
            made.stop()
        if driver == "systemd":  # which would keep the slice until it has time to look for what nobody needs
            subprocess.run(["systemctl", "stop", parent], check=True)
        for path in (directory, *fixed):
            shutil.rmtree(path)
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
            with contextlib.suppress(FileNotFoundError):
                (hierarchy / directory.name).rmdir()  # the daemon leaves its containers' parent


def _start(directory: Path, arguments: tuple[str, ...]) -> Dockerd:
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(directory / "ready"))
    ready.settimeout(PATIENCE)
    command = [
        str(runtimes.find("dockerd")), "--host", f"unix://{directory}/s", "--data-root", f"{directory}/data",
        "--exec-root", f"{directory}/run", "--pidfile", f"{directory}/pid", "--bridge", "none", "--iptables=false",
        "--ip-forward=false", "--ip-masq=false", "--add-runtime", f"sampan={runtimes.find('sampan-runtime')}",
        *arguments,
    ]
    with open(directory / "log", "wb") as log, ready:
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", SCRIPT, "sh", str(directory), *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "ready")},
        )
        made = Dockerd(directory, process)
        try:
            assert b"READY=1" in ready.recv(1024)
        except TimeoutError:
            process.kill()
            process.wait()
            raise AssertionError(f"dockerd did not start\n{made.log}") from None
    return made
