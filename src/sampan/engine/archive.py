"""`docker cp`, `export`, `diff`, `commit`: a container's files, handled by worker jobs, whatever the container does."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sampan.engine import inspection, mounts, timestamps
from sampan.engine.container import Container
from sampan.engine.context import Context
from sampan.errors import Conflict, NotFound

_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24, stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


@asynccontextmanager
async def root(ctx: Context, container: Container, write: bool) -> AsyncIterator[tuple[dict[str, Any], list[int]]]:
    """A container's root for a job: its own while it runs, else its layers with what it would have mounted.

    Of a running one a descriptor is passed: neither a path nor a pid can lead elsewhere meanwhile. Another one is not
    started while its layers are mounted to be changed, or to have mounts in them.
    """
    points = [
        {"source": point.source, "destination": point.destination, "read_only": not point.rw}
        for point in container.record.mounts if point.type != "tmpfs"
    ]
    if container.shim is None and not points and not write:
        yield overlay(ctx, container), []
        return
    if container.shim is None:
        async with container.lock:
            if container.shim is None:
                mounts.prepare(container.record.mounts)
                yield {**overlay(ctx, container), "mounts": points}, []
                return
    fd = _root_of(container)
    try:
        yield {"kind": "fd"}, [fd]
    finally:
        os.close(fd)


@contextmanager
def _named(container: Container) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NotFound(f"{error} in container {container.name}") from error


def _root_of(container: Container) -> int:
    assert container.shim is not None
    try:
        fd = os.open(f"/proc/{container.shim.pid}/root", _DIR)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Conflict(f"container {container.id} is not running") from error
    ended = select.poll()
    ended.register(container.shim.pidfd, select.POLLIN)
    if ended.poll(0):  # it ended before the open: the pid may be somebody else's by now
        os.close(fd)
        raise Conflict(f"container {container.id} is not running")
    return fd


def overlay(ctx: Context, container: Container) -> dict[str, Any]:
    directory = ctx.directory(container.id)
    return {
        "kind": "overlay", "lower": inspection.lower_dirs(ctx, container.record), "upper": f"{directory}/upper",
        "work": f"{directory}/work",
    }


async def stat_path(ctx: Context, container: Container, path: str) -> dict[str, Any]:
    """Docker's ContainerPathStat. Raises NotFound."""
    with _named(container):
        async with root(ctx, container, write=False) as (where, fds):
            found = await ctx.worker.run("image.stat", {"root": where, "path": path}, fds)
    return {
        "name": found["name"], "size": found["size"], "mode": go_mode(found["mode"]),
        "mtime": timestamps.rfc3339(found["mtime"]), "linkTarget": found["link_target"],
    }


def go_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode has it."""
    bits = sum(go for unix, go in _GO_BITS.items() if mode & unix)
    return _GO_TYPES.get(stat.S_IFMT(mode), 0) | bits | mode & 0o777


async def get(ctx: Context, container: Container, path: str, fd: int) -> None:
    """Write a file or directory as a tar to `fd`, which stays the caller's. Raises NotFound."""
    with _named(container):
        async with root(ctx, container, write=False) as (where, fds):
            await ctx.worker.run("image.pack", {"root": where, "path": path}, [fd, *fds])
    ctx.publish(container, "archive-path")


async def put(ctx: Context, container: Container, path: str, fd: int, no_overwrite: bool) -> None:
    """Unpack a tar into a directory of the container; owners are the archive's, as dockerd has it whatever its manual
    says. Raises NotFound, InvalidArgument, Conflict.
    """
    _check_writable(container, path)
    with _named(container):
        async with root(ctx, container, write=True) as (where, fds):
            await ctx.worker.run("image.extract", {"root": where, "path": path, "same_kind": no_overwrite}, [fd, *fds])
    ctx.publish(container, "extract-to-dir")


def _check_writable(container: Container, path: str) -> None:
    record, clean = container.record, "/" + path.strip("/")
    read_only = {point.destination: not point.rw for point in record.mounts}
    read_only |= dict.fromkeys(record.host_config.get("Tmpfs") or {}, False)
    above = [point for point in read_only if clean == point or clean.startswith(point + "/")]
    if above and read_only[max(above, key=len)]:
        raise Conflict("mounted volume is marked read-only")
    if not above and record.host_config["ReadonlyRootfs"]:
        raise Conflict("container rootfs is marked read-only")


async def export(ctx: Context, container: Container, fd: int) -> None:
    """The whole root as a tar, without what is mounted in it."""
    args = {"root": overlay(ctx, container), "path": "/", "name": "", "one_filesystem": True}
    await ctx.worker.run("image.pack", args, [fd])
    ctx.publish(container, "export")


async def changes(ctx: Context, container: Container) -> list[dict[str, Any]]:
    """`docker diff`: what differs from the image, sorted by path."""
    found: list[dict[str, Any]] = []

    def take(progress: dict[str, Any]) -> None:
        found.extend({"Path": path, "Kind": kind} for path, kind in progress["changes"])

    await ctx.worker.run("image.changes", {"root": overlay(ctx, container)}, on_progress=take)
    return found


async def size(ctx: Context, container: Container) -> int:
    """Bytes the container has written."""
    path = f"{ctx.directory(container.id)}/upper"
    return int((await ctx.worker.run("image.tree_size", {"path": path}))["size"])

