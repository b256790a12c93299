"""The suite's files, laid out to run, and bats over one of them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import termios
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CGROUP_ROOT = Path("/sys/fs/cgroup")
PATIENCE = 300
"""Seconds after which a file's tests count as hanging."""
RESULT = re.compile(r"(?P<not>not )?ok \d+ (?P<name>.*?)(?: # skip ?\(?(?P<skip>.*?)\)?)?(?: in \d+.*)?")
"""A line of TAP, as bats writes it: `ok 3 NAME # skip (REASON)`."""


@dataclass
class Result:
    """What became of one test. `skipped`: the suite's own reason not to run it, "" if it ran."""

    name: str
    passed: bool
    skipped: str = ""
    details: list[str] = field(default_factory=list)


class Suite(AbstractContextManager["Suite"]):
    """A copy of the suite from `source`, with our programs in place of those it would build, for one run.

    `source` lies in the cache (scripts/conformance-suites/source), beside the base images. `patience`: seconds for the
    tests of one file. `user`: the uid and gid to run as. `systemd`: with the systemd cgroup driver. Leaving the
    context removes the copy.
    """

    def __init__(
        self, source: Path, runtime: Path, patience: float = PATIENCE, user: int = 0, systemd: bool = False
    ) -> None:
        self.runtime = runtime
        self.user = user
        self._patience = patience
        self._driver = {"RUNC_USE_SYSTEMD": "1"} if systemd else {}
        self._home = Path(tempfile.mkdtemp(prefix="runc-suite-"))
        self._home.chmod(0o755)  # what user namespaces map as root has to get through
        self._tests = self._home / "tests/integration"
        shutil.copytree(source / "tests/integration", self._tests)
        shutil.copytree(source / "contrib/cmd", self._home / "contrib/cmd")
        shutil.copy(source / "go.mod", self._home)
        for name in ("seccompagent", "sd-helper"):
            shutil.copy(HERE / name, self._home / "contrib/cmd" / name)
        subprocess.run(
            ["gcc", "-O1", "-o", self._home / "contrib/cmd/recvtty/recvtty", HERE / "recvtty.c"], check=True
        )
        self._make_images(source.parents[1] / "images")

    def _make_images(self, images: Path) -> None:
        """In place of those that the suite downloads: ours. busybox as it knows it, without /proc and /sys."""
        busybox = self._home / "busybox.tar"
        with tarfile.open(images / "busybox.tar") as old, tarfile.open(busybox, "w") as new:
            for member in old:
                if member.name not in ("./proc", "./sys"):
                    new.addfile(member, old.extractfile(member) if member.isreg() else None)
        script = self._tests / "get-images.sh"
        script.write_text(f"#!/bin/sh\necho 'BUSYBOX_IMAGE={busybox} DEBIAN_IMAGE={images}/debian.tar'\n")

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._home)

    def files(self, names: Sequence[str]) -> list[str]:
        """The names of the suite's files, all if none are given. SystemExit for one that it does not have."""
        have = sorted(path.name for path in self._tests.glob("*.bats"))
        wanted = [name if name.endswith(".bats") else f"{name}.bats" for name in names]
        if missing := [name for name in wanted if name not in have]:
            raise SystemExit(f"conformance: the suite has no {', '.join(missing)}; it has {' '.join(have)}")
        return wanted or have

    def run(self, file: str, runtime: Path | None = None, only: str = "") -> Iterator[Result]:
        """Each test of `file` as it ends; `only`: that of this name. `runtime`: another one than the suite's."""
        scratch = self._home / "tmp"
        scratch.mkdir(mode=0o755)
        os.chown(scratch, self.user, self.user)
        command = ["bats", "--tap", *(["--filter", f"^{re.escape(only)}$"] if only else []), str(self._tests / file)]
        env = {**os.environ, "RUNC": str(runtime or self.runtime), "TMPDIR": str(scratch), **self._driver}
        before = _plain_directories()
        with _terminal(self.user) as terminal, (self._home / "trouble").open("w+") as trouble:
            with subprocess.Popen(
                command, env=env, stdin=terminal, stdout=subprocess.PIPE, stderr=trouble, text=True,
                start_new_session=True, preexec_fn=_control_terminal, user=self.user, group=self.user,
                extra_groups=[],
            ) as bats:
                assert bats.stdout is not None
                with _ended_after(self._patience, bats) as late:
                    yield from _results(bats.stdout)
            trouble.seek(0)
            if late.is_set():
                yield Result("bats itself", False, details=[f"# no end within {self._patience:g} s"])
            elif bats.returncode > 1 or (text := trouble.read()):
                yield Result("bats itself", False, details=text.splitlines())
        for top in _left_cgroups() | (_plain_directories() - before):
            for directory, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):  # one that is busy is seen by whoever looks
                    os.rmdir(directory)
        shutil.rmtree(scratch)


def _left_cgroups() -> set[Path]:
    """The suite's parent of groups, which it does not remove from a hybrid host's v2 hierarchy."""
    return set(CGROUP_ROOT.glob("*/runc-cgroups-integration-test"))


def _plain_directories() -> set[Path]:
    """Directories beside the v1 hierarchies: the suite takes all controllers of /proc/cgroups for mounted."""
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        return set()
    return {path for path in CGROUP_ROOT.iterdir() if not path.is_symlink() and not path.is_mount()}


@contextmanager
def _terminal(user: int) -> Iterator[int]:
    """A terminal of its own: the tests run containers with one, from a shell that has one."""
    master, slave = os.openpty()
    os.fchown(slave, user, -1)
    try:
        yield slave
    finally:
        os.close(slave)
        os.close(master)


def _control_terminal() -> None:
    """In the child: stdin becomes the controlling terminal of its new session, what /dev/tty opens."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def _ended_after(seconds: float, program: subprocess.Popen[str]) -> Iterator[threading.Event]:
    """Kill a program and what it started, the event set, unless this context is left within so many seconds."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _results(lines: Iterable[str]) -> Iterator[Result]:
    """Parse TAP. A test is known to be over by the line after its last."""
    result = None
    for line in lines:
        if found := RESULT.fullmatch(line.rstrip("\n")):
            if result:
                yield result
            result = Result(found["name"], not found["not"], found["skip"] or "")
        elif result and line.startswith("#"):
            result.details.append(line.rstrip("\n"))
    if result:
        yield result
