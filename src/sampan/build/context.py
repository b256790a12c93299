"""The build context: what the client sent, as a directory of ours without what .dockerignore excludes. In worker jobs.

Whether it comes as a tar stream or as a directory, it is copied once: what changes meanwhile changes no build, and an
excluded file is not there at all, for no symlink either.
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.build import ignore
from sampan.build.copying import Look, Target
from sampan.build.dockerfile import MAX_DOCKERFILE
from sampan.build.ignore import MAX_IGNORE_FILE, Ignore
from sampan.build.pathname import clean
from sampan.build.tree import judge
from sampan.errors import InvalidArgument
from sampan.image.stream import Source
from sampan.image.tar.read import Reader
from sampan.image.unpack import Rules, Unpacker
from sampan.linux import paths


def take(source: int, root: int, dockerfile: str) -> bytes:
    """Fill the empty directory fd `root` from `source`, a tar stream or a directory; the content of the Dockerfile.

    `dockerfile` is its path in the context; it and .dockerignore are read before they are excluded, if they are.
    Raises InvalidArgument. The process's umask must be 0.
    """
    name = clean(dockerfile)
    if name == ".." or name.startswith("../"):
        raise InvalidArgument(f"The Dockerfile ({dockerfile}) must be within the build context")
    if stat.S_ISDIR(os.fstat(source).st_mode):
        text = _read_dockerfile(source, name)
        target = Target(root, Look(owner=None))
        try:
            target.tree(source, "/", _ignore(source, name))
            target.finish()
        finally:
            target.close()
        return text
    Unpacker(root, Rules()).run(Reader(Source(source).chunk))
    text = _read_dockerfile(root, name)
    _remove_excluded(root, _ignore(root, name))
    return text


def _read_dockerfile(root: int, name: str) -> bytes:
    try:
        return paths.read_file(root, name, MAX_DOCKERFILE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}") from error
    except OSError as error:
        raise InvalidArgument(f"the Dockerfile {name} cannot be read: {error.strerror}") from error


def _ignore(root: int, dockerfile: str) -> Ignore | None:
    """The rules of `<Dockerfile>.dockerignore`, else of .dockerignore; None if there are none."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        data = _read_plain(root, name)
        if data is not None:
            patterns = ignore.parse(data)
            return Ignore(patterns) if patterns else None
    return None


def _read_plain(root: int, name: str) -> bytes | None:
    """A file that must not be a symlink (CVE-2022-4122: one that led to a file of the host)."""
    try:
        if stat.S_ISLNK(paths.lstat(root, name).st_mode):
            raise InvalidArgument(f"{name} is a symbolic link, which is not followed")
        return paths.read_file(root, name, MAX_IGNORE_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidArgument(f"{name} cannot be read: {error.strerror}") from error


def _remove_excluded(root: int, rules: Ignore | None) -> None:
    if rules is None:
        return
    around: list[str] = []
    for entry, kept in judge(root, rules):
        if kept:
            continue
        if entry.is_dir and rules.exceptions:
            around.append(entry.path)
        else:
            paths.remove_tree(entry.directory, entry.name)
    for path in reversed(around):  # those that held no exception
        parent, name = paths.open_parent(root, path)
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        finally:
            os.close(parent)
