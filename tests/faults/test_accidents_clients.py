"""Clients that leave in the middle: nothing of what they began stays."""

from __future__ import annotations

import io
import os
import select
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from engine_fixture import PATIENCE, Engine, engine
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.engine.execs import Exec, ExecTable
from sampan.engine.index import Index
from sampan.engine.record import Record
from sampan.engine.state import State
from sampan.errors import NotFound
from sampan.linux.inotify import IN_CREATE, IN_DELETE, IN_MOVED_TO, Inotify


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    with engine() as made:
        yield made


def tarball(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def emptied(directory: str, inotify: Inotify) -> None:
    """Wait until nothing is left in a directory."""
    while os.listdir(directory):
        assert select.select([inotify.fd], [], [], PATIENCE)[0], f"left: {os.listdir(directory)}"
        inotify.clear()


@pytest.mark.parametrize("path", ["/images/create?fromSrc=-&repo=half", "/images/load", "/build"])
def test_an_upload_is_broken_off(boat: Engine, path: str) -> None:
    """For each of these a file job has begun to unpack; half a layer, an archive, or a context is on the disk."""
    body = tarball(Dockerfile=b"FROM busybox\n", big=bytes(8 << 20))
    head = f"POST /v1.47{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    tmp = str(boat.data_root / "tmp")
    directory = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY)
    inotify = Inotify()
    inotify.watch(directory, IN_CREATE | IN_DELETE | IN_MOVED_TO)
    try:
        for _ in range(5):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(PATIENCE)
                client.connect(boat.socket)
                client.sendall(head.encode() + body[: 4 << 20])
                assert select.select([inotify.fd], [], [], PATIENCE)[0]
                inotify.clear()
        emptied(tmp, inotify)
    finally:
        inotify.close()
        os.close(directory)


def test_the_exit_code_of_a_long_exec_outlives_many_short_ones(tmp_path: Path) -> None:
    """Its client asks a moment after it has ended, however many began after it and ended before it."""
    state, index = State(tmp_path / "state.db"), Index()
    container = Container(Record("c" * 64, "web", 1, "sha256:0", "x", {}, {}))
    index.add(container)
    table = ExecTable(cast(Context, SimpleNamespace(state=state, index=index, publish=lambda *_, **__: None)))
    table.add(container, Exec("long", container.id, {}))
    try:
        for number in range(600):
            table.add(container, Exec(str(number), container.id, {}))
            table.ended(str(number), 0)
        table.ended("long", 3)
        table.add(container, Exec("next", container.id, {}))
        assert table.get("long").exit_code == 3
        with pytest.raises(NotFound):
            table.get("0")
    finally:
        state.close()
