"""Clients that leave in the middle: nothing of what they began stays."""

from __future__ import annotations

import io
import os
import select
import socket
import tarfile
from collections.abc import Iterator

import pytest

from engine_fixture import PATIENCE, Engine, engine
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
