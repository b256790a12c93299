"""sampan cp."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator

from sampan.cli.command import Command, Invocation
from sampan.cli.engine import Engine
from sampan.cli.failure import CommandFailed, EngineError, UsageError
from sampan.cli.flags import Option
from sampan.cli.tar_write import content_of, entry_of, header
from sampan.cli.transfer import read_blocks, write_out
from sampan.cli.tree import TreeStream, gathered
from sampan.cli.units import decimal_size
from sampan.cli.unpack import Unpacker

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    Option("-a", "--archive", help="Archive mode (copy all uid/gid information)"),
    Option("-L", "--follow-link", help="Always follow symbol link in SRC_PATH"),
    Option("-q", "--quiet", help="Suppress progress output during copy"),
)
# Go's os.FileMode bits, as the path's stat has them.
GO_DIRECTORY, GO_SYMLINK = 1 << 31, 1 << 27


def split_argument(text: str) -> tuple[str, str]:
    """(container, path); no container for a local path: one that starts with / or . or has no colon."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    container, _, path = text.partition(":")
    return container, path


def path_stat(engine: Engine, container: str, path: str) -> dict[str, Any] | None:
    """name, size, mode, linkTarget of a path in a container; None when there is nothing. Raises EngineError."""
    try:
        response = engine.open("HEAD", f"/containers/{container}/archive", {"path": path})
    except EngineError as error:
        if error.status == 404 and _container_exists(engine, container):
            return None
        raise
    response.close()
    found: dict[str, Any] = json.loads(base64.b64decode(response.headers.get("x-docker-container-path-stat", "")))
    return found


def _container_exists(engine: Engine, container: str) -> bool:
    engine.get(f"/containers/{container}/json")
    return True


def _means_content(path: str) -> bool:
    return path.endswith("/.") or path == "."


def _base(path: str) -> str:
    return os.path.basename(path.rstrip("/")) or "/"


def copy_out(engine: Engine, container: str, source: str, target: str, archive: bool, follow: bool) -> int:
    """From a container to a local path, or to stdout ("-"). Returns the bytes of the files. Raises CommandFailed."""
    if follow:
        found = path_stat(engine, container, source)
        if found and found["mode"] & GO_SYMLINK and found.get("linkTarget"):
            source = found["linkTarget"]
    if target == "-":
        for block in engine.open("GET", f"/containers/{container}/archive", {"path": source}).blocks():
            write_out(1, block)
        return 0
    found = path_stat(engine, container, source)
    if found is None:
        raise CommandFailed(f"Could not find the file {source} in container {container}")
    directory, root = _local_place(source, bool(found["mode"] & GO_DIRECTORY), target)
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpacker = Unpacker(top, root, archive)
        unpacker.unpack(engine.open("GET", f"/containers/{container}/archive", {"path": source}).blocks())
    finally:
        os.close(top)
    return unpacker.size


def _local_place(source: str, is_directory: bool, target: str) -> tuple[str, str]:
    """(existing directory, the name in it for the source; "" when its content goes into the directory)."""
    if os.path.isdir(target):
        return target, "" if _means_content(source) else _base(source)
    parent, name = os.path.split(target.rstrip("/"))
    parent = parent or ("/" if target.startswith("/") else ".")
    if os.path.lexists(target) and is_directory:
        raise CommandFailed(f"cannot copy directory {source} onto the file {target}")
    if not is_directory and target.endswith("/"):
        raise CommandFailed(f"destination directory {target} does not exist: make it first")
    if not os.path.isdir(parent):
        raise CommandFailed(f"destination directory {parent} does not exist: make it first")
    if is_directory:
        os.mkdir(target.rstrip("/"))
        return target.rstrip("/"), ""
    return parent, name


def copy_in(engine: Engine, source: str, container: str, target: str, archive: bool, follow: bool) -> int:
    """From a local path, or stdin ("-"), to a container. Returns the bytes of the files. Raises CommandFailed."""
    found = path_stat(engine, container, target)
    if found and found["mode"] & GO_SYMLINK and found.get("linkTarget"):
        target = found["linkTarget"]
        found = path_stat(engine, container, target)
    is_directory = bool(found and found["mode"] & GO_DIRECTORY)
    if source == "-":
        if not is_directory:
            raise CommandFailed(f'destination "{container}:{target}" must be a directory')
        return _put(engine, container, target, read_blocks(0), archive)
    local = os.path.abspath(source) + ("/." if _means_content(source) else "")
    local_is_directory = os.path.isdir(local) and (follow or _means_content(source) or not os.path.islink(local))
    if not os.path.lexists(source):
        raise CommandFailed(f"{source}: no such file or directory")
    if is_directory:
        directory, name = target, "" if _means_content(source) else _base(source)
    else:
        if found and local_is_directory:
            raise CommandFailed(f"cannot copy directory {source} onto the file {container}:{target}")
        if not local_is_directory and target.endswith("/"):
            raise CommandFailed(f"destination directory {container}:{target} does not exist: make it first")
        directory, name = os.path.split(target.rstrip("/"))
    return _put(engine, container, directory or "/", _local_archive(local, name, local_is_directory, archive), archive)


def _local_archive(path: str, name: str, is_directory: bool, keep_owner: bool) -> Iterator[bytes]:
    """A local file or directory as a tar stream under the given name ("" for a directory's content)."""
    if not is_directory:
        return gathered(_one_file(path, os.fsencode(name), keep_owner))
    return gathered(_directory(path, os.fsencode(name), keep_owner))


def _one_file(path: str, name: bytes, keep_owner: bool) -> Iterator[bytes]:
    entry = entry_of(name, os.lstat(path), keep_owner)
    if entry is None:
        raise CommandFailed(f"{path} is a socket: it cannot be copied")
    if entry.kind == b"2":
        entry.link = os.fsencode(os.readlink(path))
    yield header(entry)
    if entry.kind == b"0":
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield from content_of(fd, entry, path)
        finally:
            os.close(fd)


def _directory(path: str, name: bytes, keep_owner: bool) -> Iterator[bytes]:
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        entry = entry_of(name, os.fstat(top), keep_owner)
        if name and entry is not None:
            yield header(entry)
        yield from TreeStream(top, prefix=name + b"/" if name else b"", keep_owner=keep_owner, shown=path).blocks()
    finally:
        os.close(top)


def _put(engine: Engine, container: str, directory: str, blocks: Iterator[bytes], archive: bool) -> int:
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for block in blocks:
            sent += len(block)
            yield block

    query = {"path": directory, "noOverwriteDirNonDir": "true", "copyUIDGID": archive}
    response = engine.open(
        "PUT", f"/containers/{container}/archive", query, counted(), {"Content-Type": "application/x-tar"}
    )
    response.read()
    response.close()
    return sent


def run(invocation: Invocation) -> int:
    values = invocation.values
    (from_container, source), (to_container, target) = (split_argument(text) for text in invocation.arguments)
    archive, follow = values.on("archive"), values.on("follow-link")
    if from_container and to_container:
        raise UsageError("copying between containers is not supported", exit_code=1)
    if not (from_container or to_container):
        raise UsageError("must specify at least one container source", exit_code=1)
    if from_container:
        size = copy_out(invocation.engine, from_container, source, target, archive, follow)
        shown = target
    else:
        size = copy_in(invocation.engine, source, to_container, target, archive, follow)
        shown = invocation.arguments[1]
    if target != "-" and not values.on("quiet") and os.isatty(2):
        print(f"Successfully copied {decimal_size(size, 3)} to {shown}", file=sys.stderr)
    return 0


COMMAND = Command(
    "CONTAINER:SRC_PATH DEST_PATH|-\n        sampan cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem", run, OPTIONS, least=2, most=2,
    detail="Use '-' as the source to read a tar archive from stdin and extract it to a directory destination in a\n"
    "container. Use '-' as the destination to stream a tar archive of a container source to stdout.",
)
