"""The sources of COPY and ADD: which files the words mean, and a hash of what is in them. Runs in worker jobs."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sampan.build import glob
from sampan.build.ignore import Ignore
from sampan.build.pathname import clean
from sampan.build.tree import Entry, walk
from sampan.errors import InvalidArgument
from sampan.linux import paths

_WILD = "*?["
CAPABILITY = "security.capability"


@dataclass(frozen=True, slots=True)
class Source:
    """`path` inside its root, cleaned; "." is the root. `status` of what it leads to: a directory or a regular file."""

    path: str
    status: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def open(self, root: int) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | (os.O_DIRECTORY if self.is_dir else 0)
        return paths.open_in_root(root, self.path, flags)


def find(root: int, words: Iterable[str], context: bool) -> list[Source]:
    """What the words mean inside the directory fd `root`, in the order they are named, those of a pattern sorted.

    `context`: the root is the build context (and not a stage or an image). Raises InvalidArgument in Docker's words.
    """
    found = [source for word in words for source in _find(root, word, context)]
    if not found:
        raise InvalidArgument("no source files were specified")
    return found


def _find(root: int, word: str, context: bool) -> Iterator[Source]:
    inside = clean(word.lstrip("/"))
    if context and (inside == ".." or inside.startswith("../")):
        raise InvalidArgument(f"forbidden path outside the build context: {word} ()")
    inside = clean("/" + word)[1:] or "."
    if not any(char in word for char in _WILD):
        yield _source(root, inside, context)
        return
    patterns = [glob.filename(part) for part in inside.split("/")]
    for path in sorted(_matches(root, "", patterns)):
        yield _source(root, path, context)


def _matches(root: int, directory: str, patterns: list[glob.Pattern]) -> Iterator[str]:
    """Names that match part by part. Only real directories are entered, as in a walk of the tree."""
    try:
        fd = paths.openat2(root, directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):  # a file or a symlink
            return
        raise
    try:
        names = [name for name in os.listdir(fd) if patterns[0].matches(name)]
    finally:
        os.close(fd)
    for name in names:
        path = f"{directory}/{name}" if directory else name
        if len(patterns) == 1:
            yield path
        else:
            yield from _matches(root, path, patterns[1:])


def _source(root: int, path: str, context: bool) -> Source:
    try:
        status = paths.stat(root, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        reason = f"stat {path}: file does not exist"
        if context:
            reason = f"file not found in build context or excluded by .dockerignore: {reason}"
        raise InvalidArgument(reason) from error
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise InvalidArgument(f"{path} is neither a file nor a directory")
    return Source(path, status)


def content_hash(root: int, source: Source, exclude: Ignore | None, owners: bool) -> str:
    """Hex digits over names, kinds, modes, link targets and contents; over times never, over owners on request."""
    total = hashlib.sha256()
    fd = source.open(root)
    try:
        if not source.is_dir:
            if exclude is None or not exclude.excludes(source.name):
                _add(total, "", source.status, "", owners)
                _add_content(total, fd)
            return total.hexdigest()
        _add(total, "", source.status, "", owners)
        for entry in walk(fd, exclude):
            _add(total, entry.path, entry.status, entry.target, owners)
            if stat.S_ISREG(entry.status.st_mode):
                _add_file(total, entry)
    finally:
        os.close(fd)
    return total.hexdigest()


def _add(total: hashlib._Hash, path: str, status: os.stat_result, target: str, owners: bool) -> None:
    owner = f"{status.st_uid}:{status.st_gid}" if owners else ""
    fields = (path, f"{status.st_mode:o}", owner, target, str(status.st_rdev))
    total.update("\0".join((*fields, "")).encode(errors="surrogateescape"))


def _add_file(total: hashlib._Hash, entry: Entry) -> None:
    fd = entry.open()
    try:
        _add_content(total, fd)
    finally:
        os.close(fd)


def _add_content(total: hashlib._Hash, fd: int) -> None:
    """The content's own hash, so that no content can pass for the fields of the next entry."""
    try:
        total.update(hashlib.sha256(os.getxattr(fd, CAPABILITY)).digest())
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
    with open(fd, "rb", buffering=0, closefd=False) as file:
        total.update(hashlib.file_digest(file, "sha256").digest())
