"""Debian's podman for a test, with our runtime: own storage and state, no network of its own.

    with podman() as engine:
        engine("run", "--rm", "busybox", "true")

Each command runs in a mount namespace in which /etc names the user `sailor` and his subordinate ids; with
`user="sailor"` it runs as him (rootless), else as root.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_fixture import busybox_tar
from peers import runtimes, sailor
from peers.runtimes import PATIENCE, Ended

LOCKS = 'mount --bind "$1/../shm" /dev/shm'
"""Podman's locks are in one file per host, whoever's podman it is."""

CONF = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "sampan"
num_locks = 64
[engine.runtimes]
sampan = ["{runtime}"]
[containers]
netns = "none"
log_driver = "k8s-file"
"""
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""


@dataclass
class Podman:
    directory: Path
    rootless: bool

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory / "home"), "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.directory / "xdg"), "CONTAINERS_CONF": str(self.directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.directory / "registries.conf"),
        }

    def line(self, *arguments: str) -> list[str]:
        """The command line that runs podman with `arguments`; its environment is `environment`."""
        here = self.directory
        places = (f"--root={here}/storage", f"--runroot={here}/run", f"--tmpdir={here}/tmp")
        return [
            *sailor.prefix(here / "etc", LOCKS, root=not self.rootless), str(runtimes.find("podman")), *places,
            *arguments,
        ]

    def __call__(self, *arguments: str, check: bool = True, **how: Any) -> Ended:
        """Run a podman command; `how` goes to subprocess.run. With `check` it must succeed."""
        if "input" not in how:
            how["stdin"] = subprocess.DEVNULL
        done = subprocess.run(
            self.line(*arguments), env=self.environment, cwd=self.directory / "home", capture_output=True,
            timeout=PATIENCE, check=False, **how,
        )
        ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
        if check and ended.code:
            raise AssertionError(f"podman {' '.join(arguments)}: {ended.code}\n{ended.out}{ended.err}")
        return ended

    def run(self, *arguments: str, check: bool = True, **how: Any) -> Ended:
        """`podman run`; limits of processes cannot be raised everywhere, so the host's are kept."""
        return self("run", "--ulimit", "host", *arguments, check=check, **how)

    def inspect(self, ref: str) -> Any:
        return json.loads(self("inspect", ref).out)[0]

    def clear(self) -> None:
        """Remove all containers and pods."""
        self("pod", "rm", "--all", "--force")
        self("rm", "--all", "--force", "--time", "0")
        for hierarchy in Path("/sys/fs/cgroup").glob("*/"):  # podman forgets a pod's group where it set no limits
            for group in hierarchy.glob("libpod_parent/*/"):
                if group.name != "conmon":
                    group.rmdir()


@contextlib.contextmanager
def podman(rootless: bool = False) -> Iterator[Podman]:
    """With the image `busybox`. The end of the block removes all of it."""
    directory = Path(tempfile.mkdtemp(prefix="sampan-podman-", dir="/tmp"))
    leaves = [path for path in _fixed_places() if not path.exists()]
    made = Podman(directory, rootless)
    _prepare(directory)
    if rootless:
        for path in (directory, *directory.glob("*")):
            os.chown(path, sailor.UID, sailor.UID)
    try:
        made("import", "-", "busybox", input=busybox_tar())
        made.run("--rm", "busybox", "true")  # makes what stays: the parent of all groups
        yield made
        made.clear()
    finally:
        if rootless:  # the process that holds its user namespace
            made("system", "migrate", check=False)
        shutil.rmtree(directory)
        for path in leaves:
            _remove(path)


def _fixed_places() -> list[Path]:
    """What podman and runtimes make in places that no option changes, and leave there."""
    hierarchies = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]
    return [Path("/run/containers"), *(hierarchy / "libpod_parent" for hierarchy in hierarchies)]


def _remove(place: Path) -> None:
    for path, _, _ in os.walk(place, topdown=False):  # files of a control group go with it
        if place.parts[1] == "sys":
            os.rmdir(path)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)


def _prepare(directory: Path) -> None:
    sailor.write_etc(directory / "etc", directory / "home")
    for name in ("home", "xdg", "tmp", "run", "storage", "shm"):
        (directory / name).mkdir()
    (directory / "xdg").chmod(0o700)
    runtime = directory / "runtime"  # podman's own `--runtime-flag root=…` does not reach its cleanup command
    runtime.write_text(f'#!/bin/sh\nexec {runtimes.find("sampan-runtime")} --root {directory}/state "$@"\n')
    runtime.chmod(0o755)
    (directory / "containers.conf").write_text(CONF.format(runtime=runtime))
    (directory / "storage.conf").write_text(STORAGE.format(directory=directory))
    (directory / "registries.conf").write_text("")
