"""The job that fills an empty volume with what the image has in its place: owners, modes and all, as Docker does."""

from __future__ import annotations

import os
import signal
import stat
from typing import Any

from sampan.errors import Internal
from sampan.image import rootfs
from sampan.image.pack import Packer, PackRules
from sampan.image.stream import Source
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker
from sampan.jobs.forkserver import Channel
from sampan.linux import paths, process

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def fill_volumes(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """args: lower (the image's layers, topmost first), volumes: [{source, destination}]. → {}"""
    os.umask(0)
    root = rootfs.layers(args["lower"])
    try:
        for volume in args["volumes"]:
            _fill(root, volume["destination"], volume["source"])
    finally:
        os.close(root)
    return {}


def _fill(root: int, destination: str, source: str) -> None:
    try:
        content = paths.open_in_root(root, destination, _DIR)
    except (FileNotFoundError, NotADirectoryError):
        return  # the image has no such directory: the volume stays empty
    try:
        volume = os.open(source, _DIR | os.O_NOFOLLOW)
        try:
            if not os.listdir(volume):
                _copy(content, volume)
                _dress(content, volume)
        finally:
            os.close(volume)
    finally:
        os.close(content)


def _copy(content: int, volume: int) -> None:
    """As a tar through a pipe: a second process packs what this one unpacks."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _pack(content, writing)
    os.close(writing)
    try:
        Unpacker(volume, Rules()).run(Reader(Source(reading).chunk))
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
    if status:
        raise Internal("the image's files could not be read while a volume was filled")


def _pack(content: int, writing: int) -> None:
    status = 1
    try:
        process.die_with_parent(signal.SIGKILL)
        packer = Packer(lambda data: _write(writing, data), PackRules(one_filesystem=True))
        packer.tree(content, b"")
        packer.finish()
        status = 0
    finally:
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _dress(content: int, volume: int) -> None:
    look = os.fstat(content)
    os.fchown(volume, look.st_uid, look.st_gid)
    os.fchmod(volume, stat.S_IMODE(look.st_mode))
