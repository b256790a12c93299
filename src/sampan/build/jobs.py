"""The build's work on files, each a job of the worker (`python -m sampan.build.jobs FD` serves them alone).

Everything is made in the build's own directory below the store's tmp/ and becomes a layer by rename; what a killed job
leaves there goes with that directory.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from sampan.build import accounts, context, mountpoints, rootfs, sources
from sampan.build.copying import Look, Target
from sampan.build.ignore import Ignore
from sampan.build.sources import Source
from sampan.errors import InvalidArgument
from sampan.image import layer
from sampan.image.layout import Layout
from sampan.image.stream import Source as Stream
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker
from sampan.jobs.forkserver import Channel, Job, main
from sampan.linux import paths

_PIECE = 1 << 16
#: errors that the Dockerfile or the files provoke; the others (no space, I/O) are the host's
_THEIRS = frozenset({
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EEXIST, errno.EXDEV, errno.EINVAL,
    errno.EMLINK, errno.ENOTEMPTY, errno.ETXTBSY, errno.EPERM,
})


class CopyRequest(msgspec.Struct):
    """What COPY and ADD ask for. `origin`: layers of the stage or image the sources are in; None: the context, fds[0].

    `destination` is absolute; a slash at its end means a directory; `written` is how it was written. `contents` are
    heredocs: name, text.
    """

    data_root: str
    keyword: str
    words: list[str]
    destination: str
    written: str = ""
    contents: list[tuple[str, str]] = []
    origin: list[str] | None = None
    exclude: list[str] = []
    chown: str | None = None
    mode: int | None = None
    unpack: bool = False
    link: bool = False
    lower: list[str] = []
    directory: str = ""

    @property
    def keeps_owners(self) -> bool:
        """Files of a stage or an image stay whose they are; those of the context become root's."""
        return self.origin is not None and self.chown is None


def take_context(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """`{directory, dockerfile}`, fds[0] a tar stream or a directory: `directory` is made and filled.

    The Dockerfile comes as progress messages `{"dockerfile": piece}`, one character for each byte.
    """
    os.umask(0)
    os.mkdir(args["directory"], 0o755)
    root = os.open(args["directory"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with _failing("cannot read the build context"):
        text = context.take(fds[0], root, args["dockerfile"])
    for at in range(0, len(text), _PIECE):
        channel.progress({"dockerfile": text[at : at + _PIECE].decode("latin-1")})
    return {}


def hash_sources(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """A CopyRequest: `{"key", "label"}`, a hash of names and contents, and its short form for the history."""
    request = msgspec.convert(args, CopyRequest)
    exclude = Ignore(request.exclude) if request.exclude else None
    parts: list[tuple[str, str]] = []
    with _failing(f"{request.keyword} failed"), _source_root(request, fds) as root:
        for source in _sources(request, root):
            kind = "dir" if source.is_dir else "file"
            parts.append((kind, sources.content_hash(root, source, exclude, request.keeps_owners) + " " + source.name))
    parts += [("file", f"{hashlib.sha256(text.encode()).hexdigest()} {name}") for name, text in request.contents]
    if len(parts) > 1 and not request.destination.endswith("/"):
        raise InvalidArgument(
            f"When using {request.keyword} with more than one source file, "
            "the destination must be a directory and end with a /"
        )
    key = hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
    kind = parts[0][0] if len(parts) == 1 else "multi"
    return {"key": key, "label": f"{kind}:{key}"}


def copy(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """A CopyRequest with `lower` and `directory`: `{"layer"}`, None if nothing changed."""
    os.umask(0)
    request = msgspec.convert(args, CopyRequest)
    os.mkdir(request.directory, 0o700)
    layout = _layout(request.data_root, request.directory)
    lower = [layout.empty] if request.link else request.lower
    with _source_root(request, fds) as origin, rootfs.writable(lower, request.directory) as step:
        owner = _owner(request, step.root)
        with _failing(f"{request.keyword} failed"):
            _copy_all(request, owner, origin, step.root)
    with _failing(f"{request.keyword} failed"):
        return _layer(layout, step.upper)


def make_workdir(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """`{data_root, directory, lower, path}`: WORKDIR's directory: `{"layer"}`, None if it is there."""
    os.umask(0)
    os.mkdir(args["directory"], 0o700)
    with rootfs.writable(args["lower"], args["directory"]) as step:
        try:
            os.close(paths.ensure_dir(step.root, args["path"], 0o755, 0, 0))
        except NotADirectoryError as error:
            raise InvalidArgument(f"Cannot mkdir: {args['path']} is not a directory") from error
        except OSError as error:
            if error.errno in _THEIRS:
                raise InvalidArgument(f"Cannot mkdir: {args['path']}: {error.strerror}") from error
            raise
    return _layer(_layout(args["data_root"], args["directory"]), step.upper)


def make_mount_points(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """`{directory, lower}`: what a container's start would make in the image: `{"layer"}`, a path or None."""
    os.umask(0)
    os.mkdir(args["directory"], 0o700)
    with _failing("cannot make the mount points of a container"):
        return {"layer": mountpoints.make(args["lower"], args["directory"])}


def commit(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """`{data_root, directory, upper}`: what a RUN has written becomes a layer: `{"layer"}`, None if it is nothing.

    `upper` is gone afterwards.
    """
    os.umask(0)
    os.mkdir(args["directory"], 0o700)
    answer = _layer(_layout(args["data_root"], args["directory"]), args["upper"])
    _remove(args["upper"])
    return answer


def remove(channel: Channel, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """`{paths}`: remove directories of ours with all that is in them."""
    for path in args["paths"]:
        _remove(path)
    return {}


JOBS: dict[str, Job] = {
    "build.context": take_context, "build.hash": hash_sources, "build.copy": copy, "build.workdir": make_workdir,
    "build.mountpoints": make_mount_points, "build.commit": commit, "build.remove": remove,
}


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Errors that the user's input provokes begin with `what`."""
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error
    except OSError as error:
        if error.errno not in _THEIRS:
            raise
        name = os.fsdecode(error.filename) if error.filename is not None else ""
        raise InvalidArgument(f"{what}: {name}: {error.strerror}") from error


@contextmanager
def _source_root(request: CopyRequest, fds: list[int]) -> Iterator[int]:
    if request.origin is None:
        yield fds[0]
    else:
        with rootfs.readable(request.origin) as root:
            yield root


def _sources(request: CopyRequest, root: int) -> list[Source]:
    return sources.find(root, request.words, request.origin is None) if request.words else []


def _copy_all(request: CopyRequest, owner: tuple[int, int] | None, origin: int, root: int) -> None:
    exclude = Ignore(request.exclude) if request.exclude else None
    target = Target(root, Look(owner, request.mode))
    try:
        for source in _sources(request, origin):
            fd = source.open(origin)
            try:
                _copy_one(request, source, fd, target, exclude)
            finally:
                os.close(fd)
        for name, text in request.contents:
            target.text(text.encode(), _place(request, target, name))
        target.finish()
    finally:
        target.close()


def _owner(request: CopyRequest, root: int) -> tuple[int, int] | None:
    if request.chown is None:
        return None if request.keeps_owners else (0, 0)
    if not request.link:
        return accounts.owner(root, request.chown)
    with rootfs.readable(request.lower) as image:
        return accounts.owner(image, request.chown)


def _copy_one(request: CopyRequest, source: Source, fd: int, target: Target, exclude: Ignore | None) -> None:
    if source.is_dir:
        target.tree(fd, request.destination, exclude)
    elif exclude is not None and exclude.excludes(source.name):
        return
    elif request.unpack and _is_archive(fd):
        _unpack(request, fd, target)
    else:
        target.file(fd, source.status, _place(request, target, source.name))


def _place(request: CopyRequest, target: Target, name: str) -> str:
    """A file goes into a directory, or becomes what the destination names."""
    destination = request.destination
    if destination.endswith("/") or target.is_dir(destination):
        return f"{destination.rstrip('/')}/{name}"
    return destination


def _is_archive(fd: int) -> bool:
    """Does a tar archive begin here, compressed or not? By its content, whatever its name is."""
    try:
        return next(Reader(Stream(fd).chunk).entries(), None) is not None
    except InvalidArgument:
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)


def _unpack(request: CopyRequest, fd: int, target: Target) -> None:
    """The archive's own owners and modes count; --chown replaces the owners."""
    directory = target.directory(request.destination)
    try:
        rules = Rules(owner=None if request.chown is None else target.owner)
        Unpacker(directory, rules).run(Reader(Stream(fd).chunk))
    finally:
        os.close(directory)


def _remove(path: str) -> None:
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        paths.remove_tree(parent, os.path.basename(path))
    finally:
        os.close(parent)


def _layout(data_root: str, directory: str) -> Layout:
    """The store, with its half-made things in a directory of the build's: it is removed even if this job is killed."""
    layout = Layout(data_root)
    layout.tmp = directory
    return layout


def _layer(layout: Layout, upper: str) -> dict[str, Any]:
    with os.scandir(upper) as entries:
        if next(entries, None) is None:
            return {"layer": None}
    ref, _ = layer.commit(layout, upper, move=True)
    return {"layer": None if ref.diff_id == layer.EMPTY_DIFF_ID else msgspec.to_builtins(ref)}


if __name__ == "__main__":
    main(JOBS, bound=True)
