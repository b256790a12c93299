"""Archives, stores and jobs for the tests of layers."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sampan.errors import from_message
from sampan.image.layout import Layout
from sampan.jobs import channel as wire
from sampan.jobs.forkserver import Job, serve


def member(name: str, content: bytes | None = None, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive: a file with `content`, or what `type` says; attributes of TarInfo by name."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
    info.mode = 0o644 if content is not None else 0o755
    info.mtime = 1_000_000_000
    xattrs = more.pop("xattrs", {})
    for key, value in more.items():
        setattr(info, key, value)
    info.size = len(content or b"")
    info.pax_headers = {
        f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape") for key, value in xattrs.items()
    }
    return info, content or b""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=tarfile.LNKTYPE, linkname=target)


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def new_layout(path: Path) -> Layout:
    layout = Layout(path)
    layout.prepare()
    return layout


def memory_file(data: bytes) -> int:
    """A descriptor with this content, at its start. The caller closes it."""
    fd = os.memfd_create("archive", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def run(
    jobs: dict[str, Job], job: str, args: dict[str, Any], fds: Sequence[int] = ()
) -> tuple[dict[str, Any], list[Any]]:
    """Run a job as the engine does, in a process forked by a fork server; its result and its progress messages."""
    ours, theirs = wire.pair()
    server = os.fork()
    if server == 0:
        status = 1
        try:
            ours.close()
            serve(theirs, jobs, bound=True)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    mine, its = wire.pair()
    try:
        wire.send(ours, {"job": job, "args": args}, [its.fileno(), *fds])
        its.close()
        return _result(mine)
    finally:
        mine.close()
        ours.close()
        os.waitpid(server, 0)


def _result(sock: socket.socket) -> tuple[dict[str, Any], list[Any]]:
    progress = []
    while (received := wire.receive(sock)) is not None:
        message, fds = received
        for fd in fds:
            os.close(fd)
        if "result" in message:
            return message["result"], progress
        if "error" in message:
            raise from_message(message["error"])
        if "progress" in message:
            progress.append(message["progress"])
    raise AssertionError("the job ended without a word")


def listing(top: Path | int) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a tree: kind, mode, owner, time, content or target, attributes, links among its names."""
    root = os.open(top, os.O_RDONLY | os.O_DIRECTORY) if not isinstance(top, int) else os.dup(top)
    found: dict[str, tuple[Any, ...]] = {}
    inodes: dict[tuple[int, int], str] = {}
    try:
        for path, status, fd in sorted(_walk(root, ""), key=lambda it: it[0]):
            inode = (status.st_dev, status.st_ino)
            first = inodes.setdefault(inode, path) if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) else path
            found[path] = (
                stat.filemode(status.st_mode), status.st_uid, status.st_gid, _time(status),
                status.st_rdev, fd, first,
            )
    finally:
        os.close(root)
    return found


def _time(status: os.stat_result) -> int:
    """Seconds; a whiteout's time means nothing."""
    return 0 if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else status.st_mtime_ns // 10**9


def _walk(fd: int, prefix: str) -> Iterable[tuple[str, os.stat_result, Any]]:
    for name in os.listdir(fd):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        yield prefix + name, status, _content(fd, name, status)
        if stat.S_ISDIR(status.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            yield from list(_walk(below, f"{prefix}{name}/"))
            os.close(below)


def _content(directory: int, name: str, status: os.stat_result) -> Any:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(name, dir_fd=directory)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return None
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        kept = {
            key: os.getxattr(fd, key) for key in os.listxattr(fd)
            if not key.startswith("trusted.overlay.") or key.endswith(".opaque")
        }
        return (os.read(fd, 1 << 20) if stat.S_ISREG(status.st_mode) else None), kept
    finally:
        os.close(fd)
