"""The same calls to runc and to ours, one after the other: exit codes, output and errors agree."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import PROGRAM, Dock, dock, ended

pytestmark = pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc")

ONE_SHARE = ("update", "--cpu-share", "1", "boat")
"""Less than the least. On v2 runc makes a weight of 70369281052672 of it, and complains of that one."""
STORY = (
    ("state", "boat"), ("create", "--bundle", "BUNDLE", "boat"), ("create", "--bundle", "BUNDLE", "boat"),
    ("state", "boat"), ("list",), ("list", "--format", "json"), ("list", "-q"), ("resume", "boat"),
    ("exec", "boat", "sh", "-c", "exit 3"), ("start", "boat"), ("start", "boat"), ("delete", "boat"),
    ("ps", "boat", "-o", "comm"), ("pause", "boat"), ("pause", "boat"), ("list",), ("exec", "boat", "true"),
    ("start", "boat"), ("resume", "boat"), ("resume", "boat"),
    ("exec", "boat", "sh", "-c", "echo out; echo err >&2; exit 7"), ("exec", "boat", "sh", "-c", "kill -9 $$"),
    ("exec", "boat"), ("exec", "boat", "nonexistent"), ("exec", "-u", "x", "boat", "true"),
    ("exec", "-u", "1:2", "boat", "id"),
    ("exec", "--process", "/nonexistent", "boat"), ("update", "--memory", "xx", "boat"),
    ("update", "--memory", "64m", "boat"), ("update", "--cpu-period", "x", "boat"),
    ONE_SHARE,
    ("update", "-r", "/nonexistent", "boat"), ("kill", "boat", "XX"), ("kill", "boat", "KILL"), ("WAIT",),
    ("state", "boat"), ("kill", "boat", "KILL"), ("kill", "--all", "boat", "KILL"), ("exec", "boat", "true"),
    ("start", "boat"), ("pause", "boat"), ("events", "--stats", "boat"), ("delete", "boat"), ("delete", "boat"),
    ("delete", "--force", "boat"), ("run", "--bundle", "/nonexistent", "boat"), ("state",), ("bogus",),
    ("create", "-b", "BUNDLE", "../x"),
    ("kill",), ("list", "--bogus"), ("list", "--format", "xml"), ("spec", "--bundle", "BUNDLE"),
)


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        made.config["process"]["args"] = ["sleep", "1000"]
        yield made


def tell(boat: Dock) -> list[tuple[tuple[str, ...], int, str, str]]:
    """Each call of the story: (call, exit code, stdout, the error's message), what differs by nature evened out."""
    boat.write()
    found = []
    pid = 0
    for words in STORY:
        if words == ("WAIT",):
            ended(pid)
            continue
        with (boat.directory / "out").open("w+") as out, (boat.directory / "err").open("w+") as err:
            arguments = [str(boat.directory) if word == "BUNDLE" else word for word in words]
            code = boat.call(*arguments, stdout=out, stderr=err).returncode
            for file in (out, err):
                file.seek(0)
            said, wrong = out.read(), err.read()
        if words[0] == "state" and code == 0:
            pid = json.loads(said)["pid"] or pid
        found.append((words, code, evened(said), message(wrong)))
    return found


def evened(text: str) -> str:
    if text.startswith("Incorrect Usage"):
        return "Incorrect Usage"
    text = re.sub(r'"ociVersion": ?"[^"]*"', "VERSION", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z *", "TIME ", text)
    text = re.sub(r"CREATED +", "CREATED ", text)  # a time may have fewer digits
    text = re.sub(r'"pid": ?[1-9]\d*', "PID", text)
    return re.sub(r"^(boat +)[1-9]\d* +", r"\1PID ", text, flags=re.M)


def message(text: str) -> str:
    """The first error's words, without the program's name."""
    found = re.search(r'level=error msg="?((?:[^"\\]|\\.)*)', text)
    return re.sub(r"sampan-runtime|runc", "PROGRAM", found[1] if found else text)


EXTRA = ("unable to start container process: ", "open ", "\\n")
"""What runc says besides; what follows or precedes it is the same."""


def test_both_tell_the_same_story(boat: Dock) -> None:
    boat.program = ("runc",)
    theirs = tell(boat)
    boat.program = PROGRAM
    ours = tell(boat)
    different = []
    for their, our in zip(theirs, ours, strict=True):
        words = their[3] if their[0] != ONE_SHARE else "the minimum allowed cpu-shares is 2"
        for extra in EXTRA:
            words = words.replace(extra, "")
        if their[:3] != our[:3] or words.split(": strconv")[0] not in our[3]:
            different.append(f"{their}\n{our}")
    assert not different, "\n" + "\n\n".join(different)


@pytest.mark.parametrize("flags", [[], ["--rootless"]])
def test_spec_has_runcs_namespaces(boat: Dock, flags: list[str]) -> None:
    """Programs, and runc's own tests, go on from there."""
    found = []
    for boat.program in (("runc",), PROGRAM):
        (boat.directory / "config.json").unlink(missing_ok=True)
        boat.ok("spec", *flags, "--bundle", str(boat.directory))
        namespaces = json.loads((boat.directory / "config.json").read_text())["linux"]["namespaces"]
        found.append({namespace["type"] for namespace in namespaces})
    assert found[0] == found[1]
