"""What `build` sends: a directory without what .dockerignore excludes, or an archive or a Dockerfile from stdin."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sampan.cli.failure import CommandFailed
from sampan.cli.tar_write import END, file_entry
from sampan.cli.transfer import read_blocks
from sampan.cli.tree import Choose, TreeStream, gathered

DOCKERFILE_LIMIT = 16 << 20
MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
DEFAULT_NAME = "Dockerfile"


class Context:
    """A stream and the Dockerfile's name in it. Close it."""

    def __init__(self, blocks: Iterator[bytes], dockerfile: str, fds: tuple[int, ...] = ()) -> None:
        self.blocks = blocks
        self.dockerfile = dockerfile
        self._fds = fds

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = ()


def is_archive(start: bytes) -> bool:
    """Whether a stream begins like a tar archive, plain or compressed."""
    return start[257:262] == b"ustar" or start.startswith(MAGIC)


def open_context(path: str, dockerfile: str) -> Context:
    """The context for `build PATH -f dockerfile` ("" if not given). Raises CommandFailed."""
    if path == "-":
        if dockerfile == "-":
            raise CommandFailed("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(dockerfile)
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise CommandFailed(f"unable to prepare context: {path} is not a directory") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandFailed(f"unable to prepare context: path {path}: {reason}") from None
    try:
        return _from_directory(top, path, dockerfile)
    except BaseException:
        os.close(top)
        raise


def _from_stdin(dockerfile: str) -> Context:
    blocks = read_blocks(0)
    start = b""
    while len(start) < 512 and (block := next(blocks, b"")):
        start += block
    if is_archive(start):
        return Context(_chain(start, blocks), dockerfile or DEFAULT_NAME)
    if dockerfile:
        raise CommandFailed("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    content = start + _limited(blocks, DOCKERFILE_LIMIT)
    return Context(iter([file_entry(DEFAULT_NAME.encode(), content) + END]), DEFAULT_NAME)


def _chain(start: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from blocks


def _limited(blocks: Iterator[bytes], limit: int) -> bytes:
    content = b""
    for block in blocks:
        content += block
        if len(content) > limit:
            raise CommandFailed(f"unable to prepare context: a Dockerfile of more than {limit} bytes")
    return content


def _from_directory(top: int, path: str, dockerfile: str) -> Context:
    outside = b""
    inside = _name_inside(path, dockerfile)
    if inside is None:
        outside = _read_dockerfile(dockerfile)
        inside = f".dockerfile.{os.urandom(10).hex()}"
    elif not _is_file(top, inside):
        shown = dockerfile or f"{path.rstrip('/')}/{inside}"
        raise CommandFailed(f"unable to prepare context: no Dockerfile at {shown}: write one, or name another with -f")
    ignore_text = _read_ignore(top, inside)
    choose = chooser(ignore_text, keep=(inside, ".dockerignore", f"{inside}.dockerignore"), added=bool(outside))
    tree = TreeStream(top, choose=choose, shown=path.rstrip("/") or "/")
    blocks = tree.blocks()
    if outside:
        # As Docker does: the Dockerfile from elsewhere comes along, and the build does not see it as a file.
        extra = ignore_text.rstrip(b"\n") + b"\n.dockerignore\n" + inside.encode() + b"\n"
        added = file_entry(b".dockerignore", extra) + file_entry(inside.encode(), outside)
        blocks = _chain(added, blocks)
    return Context(gathered(blocks), inside, (top,))


def _name_inside(path: str, dockerfile: str) -> str | None:
    """The Dockerfile's name seen from the context; None when it is elsewhere (or stdin)."""
    if not dockerfile:
        return DEFAULT_NAME
    if dockerfile == "-":
        return None
    top = os.path.abspath(path)
    for candidate in (os.path.abspath(dockerfile), os.path.abspath(f"{top}/{dockerfile}")):
        name = os.path.relpath(candidate, top)
        if not name.startswith("../") and os.path.exists(candidate):
            return name
    if os.path.exists(dockerfile):
        return None
    return os.path.relpath(os.path.abspath(dockerfile), top) if dockerfile.startswith("/") else dockerfile


def _is_file(top: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=top)
    except OSError:
        return False
    return True


def _read_dockerfile(path: str) -> bytes:
    if path == "-":
        return _limited(read_blocks(0), DOCKERFILE_LIMIT)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _limited(read_blocks(fd), DOCKERFILE_LIMIT)
    finally:
        os.close(fd)


def _read_ignore(top: int, dockerfile: str) -> bytes:
    """`<Dockerfile>.dockerignore`, else .dockerignore, else b""."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=top)
        except FileNotFoundError:
            continue
        try:
            return _limited(read_blocks(fd), DOCKERFILE_LIMIT)
        finally:
            os.close(fd)
    return b""


def chooser(ignore_text: bytes, keep: tuple[str, ...], added: bool) -> Choose:
    """What of a context to send. `keep`: sent whatever the patterns say. `added`: .dockerignore is replaced by ours."""
    from sampan.build import ignore  # the builder's own rules: what is sent and what is built cannot differ

    rules = ignore.Ignore(ignore.parse(ignore_text))

    def choose(path: str, is_directory: bool) -> tuple[bool, bool]:
        if added and path == ".dockerignore":
            return False, False
        if path in keep:
            return True, True
        excluded = rules.excludes(path)
        holds_kept = any(name.startswith(f"{path}/") for name in keep)
        return not excluded, not excluded or rules.exceptions or holds_kept

    return choose
