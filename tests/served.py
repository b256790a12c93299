"""An engine as its users have it: `sampan serve` with directories, bridge and socket of its own; the docker command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

APPLETS = ("sh", "cat", "echo", "ls", "true", "false", "sleep", "env", "pwd", "id", "hostname", "touch", "mkdir")


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


class Served:
    """A running engine. `docker(…)` runs the real command against it; it must succeed unless told otherwise."""

    def __init__(self, root: Path, number: int) -> None:
        self.root = root
        self.socket = root / "api.sock"
        self.log = root / "engine.log"
        self._number = number
        self._cgroup = f"sampan-test-{os.getpid()}-{number}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        command = [
            sys.executable, "-I", "-m", "sampan.cli", "serve", "-H", f"unix://{self.socket}",
            "--data-root", str(self.root / "data"), "--exec-root", str(self.root / "exec"),
            "--bridge", f"sampan-t{self._number}", "--bip", f"10.213.{self._number}.1/24",
            "--cgroup-parent", f"/{self._cgroup}",
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writing],
                env={**os.environ, "SAMPAN_READY_FD": str(writing)},
            )
        os.close(writing)
        with open(reading, "rb") as ready:
            if ready.readline() != b"ready\n":
                raise AssertionError(f"the engine did not start:\n{self.log.read_text()}")
        return process

    def close(self) -> None:
        self.docker("ps", "-aq", check=False)
        ids = self.docker("ps", "-aq").out.split()
        if ids:
            self.docker("rm", "-fv", *ids)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        for parent in Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}"):  # the engine keeps the parent of its groups
            parent.rmdir()

    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.root / "docker"),
            "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false",
        }

    def docker(self, *args: str, input: bytes = b"", check: bool = True, cwd: Path | None = None) -> Result:
        done = subprocess.run(
            ["docker", *args], input=input, capture_output=True, env=self.environment(), cwd=cwd, timeout=60
        )
        result = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        assert not check or result.status == 0, f"docker {' '.join(args)}: {result}\n{self.log.read_text()[-4000:]}"
        return result

    def inspect(self, *args: str) -> Any:
        return json.loads(self.docker("inspect", *args).out)[0]


@contextlib.contextmanager
def served(number: int) -> Iterator[Served]:
    """`number` (1 to 250) keeps the engines of several test files apart."""
    with tempfile.TemporaryDirectory(prefix="sampan-served-", dir="/tmp") as root:
        engine = Served(Path(root), number)
        try:
            yield engine
        finally:
            engine.close()


def tar(files: Mapping[str, bytes | str], links: Mapping[str, str] | None = None) -> bytes:
    """A tar of plain files (a path that begins with bin/ is executable) and symlinks."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()


def busybox(extra: Mapping[str, bytes | str] | None = None, applets: Sequence[str] = APPLETS) -> bytes:
    """A small root file system."""
    files: dict[str, bytes | str] = {
        "bin/busybox": Path("/bin/busybox").read_bytes(), "etc/passwd": "root:x:0:0::/:/bin/sh\n", **(extra or {}),
    }
    return tar(files, {f"bin/{name}": "busybox" for name in applets})
