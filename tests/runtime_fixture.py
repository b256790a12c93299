"""Containers as bundles, with `sampan-runtime` called as containerd calls it, for tests of the runtime as a command."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.shim_fixture import CAPABILITIES, make_root

PROGRAM = (sys.executable, "-m", "sampan.runtime.command")
PATIENCE = 60
"""Seconds after which a call counts as hanging."""
QUIET = ["nosuid", "noexec", "nodev"]
Config = dict[str, Any]


def make_config(args: Sequence[str], root: str = "root", cgroup: str = "") -> Config:
    """A usual config.json: containerd's mounts, namespaces, masks and capabilities, in the shape of runc's `spec`."""
    sets = {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": list(args), "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/", "capabilities": sets, "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": False},
        "hostname": "boat",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*QUIET, "mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": QUIET},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*QUIET, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            **({"cgroupsPath": cgroup} if cgroup else {}),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


@dataclass
class Dock:
    """A bundle with a busybox root, and a state directory of its own. `config` is written at each create or run."""

    directory: Path
    config: Config
    name: str = "boat"
    program: tuple[str, ...] = PROGRAM
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def states(self) -> Path:
        return self.directory / "states"

    def write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.config))

    def command(self, *arguments: str) -> list[str]:
        return [*self.program, "--root", str(self.states), *arguments]

    def call(self, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """One call of the program to its end; not checked. TimeoutExpired when it hangs."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **how}
        how = {"env": {**os.environ, **self.env}, "timeout": PATIENCE, "text": True, "errors": "replace", **how}
        return subprocess.run(self.command(*arguments), check=False, **how)

    def ok(self, *arguments: str, **how: Any) -> str:
        """The same; must succeed. Returns stdout."""
        done = self.call(*arguments, **how)
        assert done.returncode == 0, f"{arguments}: {done.returncode}: {done.stderr}"
        return str(done.stdout or "")

    def run(self, *args: str, options: Sequence[str] = (), **how: Any) -> subprocess.CompletedProcess[str]:
        """`run` in the foreground, with these words as the program unless none are given."""
        if args:
            self.config["process"]["args"] = list(args)
        self.write()
        return self.call("run", "--bundle", str(self.directory), *options, self.name, **how)

    def create(self, *args: str, name: str = "", options: Sequence[str] = ()) -> None:
        """`create`, its streams to files: what holds a pipe open could not be told from a hanging call."""
        if args:
            self.config["process"]["args"] = list(args)
        self.write()
        with (self.directory / "out").open("w+") as out:
            done = self.call(
                "create", "--bundle", str(self.directory), *options, name or self.name, stdout=out, stderr=out
            )
            assert done.returncode == 0, (self.directory / "out").read_text()

    def launch(self, *args: str, name: str = "", options: Sequence[str] = ()) -> int:
        """create and start; returns the pid of process 1."""
        self.create(*args, name=name, options=options)
        self.ok("start", name or self.name)
        return self.pid(name)

    def exec(self, *args: str, options: Sequence[str] = (), **how: Any) -> subprocess.CompletedProcess[str]:
        return self.call("exec", *options, self.name, *args, **how)

    def state(self, name: str = "") -> Config:
        found: Config = json.loads(self.ok("state", name or self.name))
        return found

    def pid(self, name: str = "") -> int:
        return int(self.state(name)["pid"])

    def delete(self) -> None:
        """Everything that is left of this dock's containers, by `delete --force`."""
        if self.states.exists():
            for name in sorted(os.listdir(self.states)):
                self.call("delete", "--force", name)


@contextmanager
def dock(directory: Path, *args: str) -> Iterator[Dock]:
    """A dock whose containers are gone at the end. `directory` must not be shared with another."""
    make_root(directory / "root")
    made = Dock(directory, make_config(args or ["true"], cgroup=f"/sampan-test-{directory.name}"))
    try:
        yield made
    finally:
        made.delete()


def ended(pid: int) -> None:
    """Wait for a process's end."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(1000 * PATIENCE), f"process {pid} does not end"
    os.close(pidfd)


def map_ids(boat: Dock) -> None:
    """A user namespace whose root is nobody outside; the image becomes its."""
    linux = boat.config["linux"]
    linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        linux[kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    for parent in (boat.directory, *list(boat.directory.parents)[:2]):
        parent.chmod(0o755)
    for path, directories, files in os.walk(boat.root):
        for name in (".", *directories, *files):
            os.lchown(f"{path}/{name}", 100000, 100000)


def one_clear_line(text: str) -> str:
    """What an error on stderr must be: one line that names no file of ours. Returns it."""
    lines = text.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines: {text[:3000]}"
    assert not any(word in text for word in ("Traceback", ".py", "Error(", "internal error", "Error:")), text
    return lines[0]
