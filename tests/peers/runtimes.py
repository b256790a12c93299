"""The OCI runtimes that are compared: Debian's runc and crun, and ours.

crun refuses a hybrid host (a v2 hierarchy with controllers beside v1 ones): there it runs in a mount namespace of its
own in which the v2 hierarchy is not mounted, and takes the host for one with v1 cgroups.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.errors import NotFound

PATIENCE = 60.0 if Path("/proc/1/comm").read_text() != "systemd\n" else 240.0
"""Seconds until a test gives up; machines with systemd may be emulated (scripts/test-in-vm)."""

UNIFIED = Path("/sys/fs/cgroup/unified")
HIDE_UNIFIED = f"umount {UNIFIED}"
"""For crun, in a mount namespace of its own, where `is_hybrid`."""
OURS = "SAMPAN_TEST_RUNTIME"
"""Environment variable with the path of a runtime to test in place of ours."""


@dataclass(frozen=True)
class Ended:
    """How a command of a runtime ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Runtime:
    """One runtime with a state directory."""

    name: str
    command: tuple[str, ...]
    root: Path

    def __str__(self) -> str:
        return self.name

    def line(self, *arguments: str) -> list[str]:
        """The command line for `arguments`."""
        return [*self.command, "--root", str(self.root), *arguments]

    def __call__(self, *arguments: str, check: bool = True, **how: Any) -> Ended:
        """Run it; `how` goes to subprocess.run. With `check` it must succeed."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        if "stdin" not in how:
            how |= {"input": ""}  # not /dev/null: crun gives its standard input to the container's user
        done = subprocess.run(self.line(*arguments), text=True, timeout=PATIENCE, check=False, **how)
        ended = Ended(done.returncode, done.stdout or "", done.stderr or "")
        if check and ended.code:
            raise AssertionError(f"{self.name} {' '.join(arguments)}: {ended.code}\n{ended.out}{ended.err}")
        return ended

    def state(self, id: str) -> Any:
        return json.loads(self("state", id).out)

    def delete(self, id: str) -> None:
        """Whatever the container is doing, and whether there is one."""
        self("delete", "--force", id, check=False)


def find(name: str) -> Path:
    """The program `name`: "runc", "crun", or "sampan-runtime" of the interpreter that runs the tests."""
    if name == "sampan-runtime":
        if given := os.environ.get(OURS):
            return Path(given)
        beside = Path(sys.executable).with_name(name)
        if beside.exists():
            return beside
    found = shutil.which(name)
    if found is None:
        raise NotFound(f"{name} is not installed: scripts/setup --test")
    return Path(found)


def runtime(name: str, root: Path) -> Runtime:
    """`root`: its state directory; it need not exist."""
    command: tuple[str, ...] = (str(find(name)),)
    if name == "crun" and is_hybrid():
        script = f'{HIDE_UNIFIED}; exec "$0" "$@"'
        command = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", script, *command)
    return Runtime(name, command, root)


def runtimes(names: Sequence[str], directory: Path) -> list[Runtime]:
    """One of each, with state directories below `directory`."""
    return [runtime(name, directory / f"state-{name}") for name in names]


def is_hybrid() -> bool:
    if not UNIFIED.is_dir():
        return False
    controllers = UNIFIED / "cgroup.controllers"
    return controllers.exists() and bool(controllers.read_text().split())
