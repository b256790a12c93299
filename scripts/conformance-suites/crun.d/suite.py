"""crun's tests, laid out to run, and one of them run."""

from __future__ import annotations

import ast
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from leftovers import Leftovers

HERE = Path(__file__).resolve().parent
CONFIG_H = "#define HAVE_ERROR_H 1\n#define HAVE_LINUX_IOPRIO_H 1\n"
"""What crun's configure would find out of what its test program wants to know."""
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
SMALLEST_PID = 10000
"""One test takes no number of fewer than five digits for a pid."""
PATIENCE = 60 if Path("/proc/1/comm").read_text() != "systemd\n" else 600
"""Seconds for one test; machines with systemd may be emulated (scripts/test-in-vm)."""


@dataclass(frozen=True)
class Result:
    """What became of a test. `skipped`: it found that it does not apply here. `output`: all it printed."""

    passed: bool
    skipped: bool
    output: str


@dataclass(frozen=True)
class Listed:
    """What is known of a test. `how`: it "fails", is "unrun", or is "slow": the quick run goes without it."""

    how: str
    why: str


def tests(source: Path) -> dict[str, str]:
    """The names of all tests with their files, in order, as they stand in the source; none of it is executed."""
    found: dict[str, str] = {}
    for file in sorted((source / "tests").glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "all_tests":
                found |= {str(name): file.name for name in ast.literal_eval(_keys(node.value))}
    return found


def _keys(table: ast.expr) -> ast.expr:
    assert isinstance(table, ast.Dict)
    return ast.List([key for key in table.keys if key], ast.Load())


def listed(source: Path) -> dict[str, Listed]:
    """The file `listed`: lines of NAME, HOW and WHY; those of NAME@VERSION for a source of that version only."""
    found = {}
    version = (source / ".tarball-version").read_text().strip()
    for line in (HERE / "listed").read_text().splitlines():
        if line and not line.startswith("#"):
            name, how, why = line.split(maxsplit=2)
            assert how in ("fails", "unrun", "slow"), line
            name, _, only = name.partition("@")
            if only in ("", version):
                found[name] = Listed(how, why)
    return found


def through_adapter(runtime: Path) -> list[str]:
    """The command for a runtime with runc's command line."""
    return [str(HERE / "runc-words"), str(runtime)]


class Suite(AbstractContextManager["Suite"]):
    """A copy of the tests from `source`, with their C program compiled, for one run. Leaving the context removes it."""

    def __init__(self, source: Path) -> None:
        self.tests = tests(source)
        self._home = Path(tempfile.mkdtemp(prefix="crun-suite-"))
        self._home.chmod(0o755)  # what user namespaces map as root has to get through
        shutil.copytree(source / "tests", self._home / "tests")
        (self._home / "config.h").write_text(CONFIG_H)
        (self._home / "tmp").mkdir()
        program = self._home / "tests/init"
        subprocess.run(
            ["gcc", "-static", "-w", "-I", self._home, "-o", program, program.with_suffix(".c")], check=True)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._home)

    def run(self, name: str, runtime: Sequence[str]) -> Result:
        """One test. `runtime`: a command that takes crun's words. Ends what a failed one leaves."""
        program = self._home / "runtime"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(runtime)} "$@"\n')
        program.chmod(0o755)
        environment = {
            **os.environ, "OCI_RUNTIME": str(program), "INIT": str(self._home / "tests/init"), "RUN_TESTS": name,
            "TMPDIR": str(self._home / "tmp"), "PYTHONPATH": str(HERE / "stand-ins"), "PYTHONUNBUFFERED": "1",
        }
        if int(LAST_PID.read_text()) < SMALLEST_PID:
            LAST_PID.write_text(str(SMALLEST_PID))
        leftovers = Leftovers()
        said = self._capture([sys.executable, f"tests/{self.tests[name]}"], environment)
        verdict = re.search(rf"^(not )?ok 1 - {re.escape(name)}( #SKIP)?$", said, re.MULTILINE)
        skipped = bool(verdict and verdict[2])
        passed = bool(verdict and not verdict[1] and not skipped)
        if not passed:
            leftovers.remove()
        shutil.rmtree(self._home / "tmp")
        (self._home / "tmp").mkdir()
        return Result(passed, skipped, said)

    def _capture(self, command: Sequence[str], environment: dict[str, str]) -> str:
        """What a program prints until its end. It has a terminal, as some tests want."""
        with _terminal() as (master, slave), (self._home / "stderr").open("w+") as trouble:
            process = subprocess.Popen(
                command, cwd=self._home, env=environment, stdin=slave, stdout=slave, stderr=trouble,
                start_new_session=True,
            )
            ended = os.pidfd_open(process.pid)
            try:
                said = _read(master, ended)
                trouble.seek(0)
                return said + trouble.read()
            finally:
                os.close(ended)
                # a check of the suite's program can leave a child; not waited for, the leader still holds the number
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    try:
        yield master, slave
    finally:
        os.close(slave)
        os.close(master)


def _read(master: int, ended: int) -> str:
    """Until `ended` is readable: a container that is left may hold the terminal on."""
    said = b""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while events := dict(poll.poll(PATIENCE * 1000)):
        if master in events:
            said += os.read(master, 65536)
        elif ended in events:
            break
    else:
        said += b"out of time\n"
    return said.decode(errors="replace").replace("\r\n", "\n")
