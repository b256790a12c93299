"""OCI runtimes under measurement, each called as containerd calls it: fork and exec of the program, no shell."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import processes

from sampan.engine.spec import seccomp

CHECKOUT = Path(__file__).resolve().parents[2]
CGROUP = f"bench-{os.getpid()}"
CLONE_NEWNS, MS_REC, MS_PRIVATE, MNT_DETACH = 0x20000, 0x4000, 1 << 18, 2
UNIFIED = "/sys/fs/cgroup/unified"
SMALLEST, LARGEST, STEP = 64 << 10, 256 << 20, 16 << 10
"""Bytes: where the search for the smallest memory limit begins and ends, and how exact it is."""
TRIES = 3
"""So many starts must succeed for a limit to be enough."""


PHASES = (
    ("interpreter start", "began", "interpreter"), ("the pack is read", "interpreter", "pack"),
    ("modules and arguments", "pack", "before create"), ("create", "before create", "create"),
    ("start, to its execve", "create", "start"), ("the program, to its end", "start", "follow"),
    ("delete", "follow", "delete"), ("exit", "delete", "ended"),
)
"""Parts of a `run` of ours: title, the moment it begins with, the moment it ends with (timeline.py)."""


@dataclass
class Runtime:
    """One program with runc's command line. `directory` holds its containers' state."""

    name: str
    program: str
    directory: Path
    cpu: list[float] = field(default_factory=list)
    """Seconds of processor time of each `run`, user and system, of all of its processes: the same on a busy machine."""

    def command(self, *arguments: str) -> list[str]:
        return [self.program, "--root", str(self.directory), *arguments]

    def call(self, *arguments: str, out: int | None = None) -> tuple[int, float]:
        """(exit code, seconds) from the fork to the exit, which includes the clean-up of `run`.

        posix_spawn shares our memory until the exec: how large we are does not count.
        """
        actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)] if out is not None else []
        command = self.command(*arguments)
        began = time.perf_counter()
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
        if arguments[0] == "run":
            self.cpu.append(usage.ru_utime + usage.ru_stime)
        return os.waitstatus_to_exitcode(status), seconds

    def run(self, bundle: Path) -> float:
        """Seconds of one `run`. Raises when it fails."""
        code, seconds = self.call("run", "--bundle", str(bundle), self.container())
        if code != 0:
            raise RuntimeError(f"{self.name} run: exit code {code}")
        return seconds

    def container(self) -> str:
        return f"bench-{self.name}-{os.getpid()}"

    def version(self) -> str:
        said = subprocess.run([self.program, "--version"], check=True, capture_output=True, text=True).stdout
        return said.split("\n")[0].split()[-1]

    def starts_within(self, bundle: Path, limit: int) -> bool:
        """Whether `run` succeeds with this many bytes of memory, each time. What it leaves is deleted."""
        spec = json.loads((bundle / "config.json").read_text())
        spec["linux"]["resources"]["memory"] = {"limit": limit}
        limited = bundle.parent / "limited"
        limited.mkdir(exist_ok=True)
        (limited / "config.json").write_text(json.dumps(spec))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(TRIES):
                code, _ = self.call("run", "--bundle", str(limited), self.container(), out=null)
                if code != 0:
                    self.call("delete", "--force", self.container(), out=null)
                    return False
        finally:
            os.close(null)
        return True

    def smallest_limit(self, bundle: Path) -> int:
        """Bytes, by bisection: what is below was seen to fail, or nothing did. 0 when no limit was enough."""
        below, enough = 0, LARGEST
        if not self.starts_within(bundle, enough):
            return 0
        limit = SMALLEST
        while limit < enough and not self.starts_within(bundle, limit):
            below, limit = limit, limit * 2
        enough = min(limit, enough)
        while enough - below > STEP:
            middle = (below + enough) // 2 // 4096 * 4096
            if self.starts_within(bundle, middle):
                enough = middle
            else:
                below = middle
        return enough

    def waiting(self, bundle: Path) -> tuple[int, int]:
        """(RSS, PSS) in bytes of the init stage of a container that is created and not started."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            code, _ = self.call("create", "--bundle", str(bundle), self.container(), out=null)
            if code != 0:
                raise RuntimeError(f"{self.name} create: exit code {code}")
            asked = self.command("state", self.container())
            state = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)
            return processes.rss(state["pid"]), processes.pss(state["pid"])
        finally:
            self.call("delete", "--force", self.container(), out=null)
            os.close(null)


def packs() -> list[Path]:
    return sorted((CHECKOUT / ".venv/bin/__pycache__").glob("sampan-runtime.*.pyc"))


def find(directory: Path) -> list[Runtime]:
    """Ours, from this checkout, and those of others that are installed.

    What ours keeps of its modules is made anew by its first run: it may be older than the sources.
    """
    for pack in packs():
        pack.unlink()
    candidates = {"sampan-runtime": str(CHECKOUT / ".venv/bin/sampan-runtime")}
    candidates |= {name: path for name in ("runc", "crun") if (path := shutil.which(name))}
    found = []
    for name, program in candidates.items():
        if Path(program).exists():
            (directory / name).mkdir()
            found.append(Runtime(name, program, directory / name))
    return found


def make_bundle(directory: Path, root: Path) -> Path:
    """runc's default spec with our command: a read-only root, so that one serves every run; cgroups below ours."""
    bundle = directory / "bundle"
    bundle.mkdir()
    maker = shutil.which("runc") or str(CHECKOUT / ".venv/bin/sampan-runtime")
    subprocess.run([maker, "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"args": ["/bin/true"], "terminal": False}
    spec["process"].pop("rlimits", None)  # not every root may raise one
    spec["root"] = {"path": str(root), "readonly": True}
    spec["linux"]["cgroupsPath"] = f"/{CGROUP}/container"
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


def with_seccomp(bundle: Path) -> Path:
    """The same bundle with the policy that engines give to every container: what they really ask of a runtime."""
    spec = json.loads((bundle / "config.json").read_text())
    held = frozenset(spec["process"]["capabilities"]["bounding"])
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    policy = seccomp.default_policy(held, os.uname().machine, (release[0], release[1]))
    spec["linux"]["seccomp"] = msgspec.to_builtins(policy)
    made = bundle.parent / "guarded"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(spec))
    return made


@contextmanager
def without_v2() -> Iterator[None]:
    """On a hybrid host: a mount namespace of our own without the v2 hierarchy, in which limits do not live there.

    crun 1.8 refuses to start when it sees one that lacks controllers. The same for all that take part. An empty tmpfs
    takes its place: crun writes there all the same.
    """
    if not os.path.ismount(UNIFIED):
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for result in (
        libc.unshare(CLONE_NEWNS),
        libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None),
        libc.umount2(UNIFIED.encode(), MNT_DETACH),
        libc.mount(b"tmpfs", UNIFIED.encode(), b"tmpfs", ctypes.c_ulong(0), None),
    ):
        if result != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), UNIFIED)
    try:
        yield
    finally:
        libc.umount2(UNIFIED.encode(), MNT_DETACH)


def timeline(runtime: Runtime, bundle: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Where the time of one `run` of ours goes: seconds by part, which add up to the whole; and create's steps as its
    flight recorder has them, those of the runtime and of the init stage, which overlap.
    """
    reading, writing = os.pipe()
    runtime.version()  # makes the pack if there is none yet
    (pack,) = packs()
    python = "/usr/bin/" + pack.name.removeprefix("sampan-runtime.").removesuffix(".pyc")
    script = str(Path(__file__).with_name("timeline.py"))
    arguments = runtime.command("run", "--bundle", str(bundle), runtime.container())[1:]
    command = ["/bin/sh", "-c", 'exec "$0" -IS "$@"', python, script, str(writing), str(pack), *arguments]
    began = time.monotonic_ns()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, writing)])
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    ended = time.monotonic_ns()
    with os.fdopen(reading) as pipe:
        told = json.loads(pipe.read())
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: status {status}")
    at = {"began": began, **told["moments"], "ended": ended}
    phases = {title: (at[to] - at[since]) / 1e9 for title, since, to in PHASES}
    steps: dict[str, float] = {}
    for name, micros in told["steps"]:
        steps[name] = steps.get(name, 0.0) + micros / 1e6
    return phases, steps
