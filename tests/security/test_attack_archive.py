"""Attacks on `docker cp` and `export` from inside the container that is read."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import threading
from pathlib import Path

from sampan.image.pack import Packer, PackRules
from sampan.linux.inotify import Inotify

IN_OPEN = 0x20
RENAME_EXCHANGE = 2


def test_a_file_that_becomes_a_device_is_not_opened(tmp_path: Path) -> None:
    """We are in no device cgroup: opening the watchdog that a container has made would restart the host in a minute."""
    (tmp_path / "file").write_bytes(b"")
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    device = os.open(tmp_path / "device", os.O_PATH)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    opened = Inotify()
    opened.watch(device, IN_OPEN)
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(directory, stop))
    swapper.start()
    try:
        for _ in range(3000):
            packer = Packer(lambda data: None, PackRules())
            with contextlib.suppress(OSError):
                packer.path(directory, b"file", b"file")
        with contextlib.suppress(BlockingIOError):
            assert os.read(opened.fd, 4096) == b""
    finally:
        stop.set()
        swapper.join()
        opened.close()
        os.close(device)
        os.close(directory)


def swap(directory: int, stop: threading.Event) -> None:
    """Two names change places, again and again: renameat2(2)."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    while not stop.is_set():
        assert renameat2(directory, b"file", directory, b"device", RENAME_EXCHANGE) == 0
