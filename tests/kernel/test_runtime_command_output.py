"""What `sampan-runtime` writes, and what it does when that cannot be written: stdout, stderr, the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock, one_clear_line


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    with dock(tmp_path) as made:
        yield made


def test_the_log_is_what_containerd_parses(boat: Dock) -> None:
    log = boat.directory / "log.json"
    done = boat.call("--log", str(log), "--log-format=json", "state", "nope")
    assert done.returncode == 1 and done.stderr == "container does not exist: nope\n"
    boat.call("--log", str(log), "--log-format=json", "start", "nope")
    first, second = [json.loads(line) for line in log.read_text().splitlines()]
    assert (first["level"], first["msg"]) == ("error", "container does not exist: nope") and second["time"][-1] == "Z"


def test_a_usage_error_is_told_though_stdout_is_full(boat: Dock) -> None:
    for wrong in (["state"], ["--bogus"]):
        with open("/dev/full", "w") as full:
            done = boat.call(*wrong, stdout=full)
        assert done.returncode == 1 and done.stderr.count("level=error") == 1 and "space" not in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["features"], ["list"], ["spec", "--help"]])
def test_what_stdout_does_not_take_is_told(boat: Dock, command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = boat.call(*command, stdout=full)
    assert done.returncode == 1 and 'level=error msg="write /dev/stdout: no space left on device"' in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["features"], ["list"], ["state", "boat"], ["events", "boat"]])
def test_a_reader_who_has_gone_ends_it_as_other_programs(boat: Dock, command: list[str]) -> None:
    boat.create("sleep", "1000")
    reading, writing = os.pipe()
    os.close(reading)
    options = ["--interval", "1ms"] if command[0] == "events" else []
    done = boat.call(command[0], *options, *command[1:], stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_log_that_cannot_be_written_fails_nothing(boat: Dock) -> None:
    boat.config["process"]["capabilities"]["bounding"].append("CAP_NOBODY_KNOWS")
    boat.config["process"]["args"] = ["echo", "ran"]
    boat.write()
    done = boat.call("--log", "/dev/full", "run", "--bundle", str(boat.directory), boat.name)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    with open("/dev/full", "w") as full:
        done = boat.call("run", "--bundle", str(boat.directory), boat.name, stderr=full)
    assert (done.returncode, done.stdout) == (0, "ran\n")


def test_closed_stdio_does_no_harm(boat: Dock) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" <&- >&- 2> {boat.directory}/err', "sh", *boat.command("list")], check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0 and (boat.directory / "err").read_text() == ""


@pytest.mark.parametrize(("command", "words"), [
    (["exec", "boat", "/bin/\udcff"], 'exec failed: exec: "/bin/?"'),
    (["exec", "--cwd", "/\udcff", "boat", "true"], 'exec failed: chdir to cwd ("/?") failed'),
    (["run", "--bundle", "{directory}/\udcff", "other"], "is not UTF-8"),
    (["state", "\udcff"], "invalid container ID format"),
])
def test_bytes_that_are_no_text_end_in_a_clear_error(boat: Dock, command: list[str], words: str) -> None:
    boat.launch("sleep", "1000")
    (boat.directory / "\udcff").mkdir()
    (boat.directory / "config.json").rename(boat.directory / "\udcff/config.json")
    done = boat.call(*[word.format(directory=boat.directory) for word in command])
    assert done.returncode in (1, 255) and words in one_clear_line(done.stderr).replace('\\"', '"')


@pytest.mark.parametrize("command", [
    ["run", "other"], ["create", "other"], ["--root", "states", "list"], ["run", "--pid-file", "pid", "other"],
])
def test_a_directory_that_is_gone_is_told(boat: Dock, command: list[str]) -> None:
    gone = boat.directory / "gone"
    gone.mkdir()
    done = boat.call(*command, cwd=gone, preexec_fn=gone.rmdir)
    assert done.returncode == 1 and "getcwd: the current directory is gone" in one_clear_line(done.stderr)
