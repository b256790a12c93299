"""Attacks by the words of an image or a container in what the runtime prints."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime_fixture import Dock, dock

from sampan.runtime.command import ps

EVIL = "x\x1b]0;title\x07\x9b31m\nERRO[0000] another line\u202e"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def boat(tmp_path: Path) -> Iterator[Dock]:
    """A container that cannot be made, because of a file of its image; the error has the file's name."""
    with dock(tmp_path) as made:
        made.config["mounts"].append({
            "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=4k"],
        })
        (made.root / "data" / EVIL).mkdir(parents=True)
        (made.root / "data" / EVIL / "big").write_bytes(bytes(1 << 20))
        made.write()
        yield made


@as_root
def test_names_of_an_image_do_not_speak_to_the_terminal(boat: Dock) -> None:
    master, peer = os.openpty()
    try:
        command = boat.command("run", "--bundle", str(boat.directory), boat.name)
        assert subprocess.run(command, stdin=peer, stdout=peer, stderr=peer, check=False).returncode == 1
        os.close(peer)
        said = b""
        try:
            while chunk := os.read(master, 4096):
                said += chunk
        except OSError:
            pass  # EIO: nobody has the other end any more
        begin, _, rest = said.decode().partition("]")
        assert "another line" in rest and "data" in rest
        assert begin == "\x1b[31mERRO\x1b[0m[0000"
        assert rest.removesuffix("\r\n").isprintable()
    finally:
        os.close(master)


@as_root
@pytest.mark.parametrize("form", ["text", "json"])
def test_names_of_an_image_are_no_lines_of_the_log(boat: Dock, form: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = boat.call("--log", str(log), "--log-format", form, "run", "--bundle", str(boat.directory), boat.name)
    assert done.returncode == 1
    for text in (done.stderr, log.read_text()):
        line, end, more = text.partition("\n")
        assert "another line" in line and (end, more) == ("\n", "")
    if form == "json":
        assert EVIL in json.loads(log.read_text())["msg"]


def test_a_process_of_another_container_is_no_line_of_ps() -> None:
    """What a program calls itself may hold what Python takes for the end of a line."""
    output = "UID PID CMD\nroot 7 sleep\nroot 8 x\u2028root 7 fake\x85root 7 fake\x0croot 7 fake\n"
    assert ps.filtered(output, {7}) == "UID PID CMD\nroot 7 sleep\n"
