"""`--chown=user:group` by an image's own /etc/passwd and /etc/group. Runs in worker jobs."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.linux import paths

MAX_FILE = 10 << 20  # bytes; CVE-2026-46680: a giant one exhausts the reader
MAX_ID = 2**31 - 1  # as the kernel's signed types and Docker have it; CVE-2024-40635: larger ones wrap


def owner(root: int, text: str) -> tuple[int, int]:
    """Uid and gid. Digits are numbers and are never looked up (CVE-2016-3697); a user alone brings its own group.

    A uid alone is the gid too. Raises InvalidArgument in Docker's words.
    """
    user, colon, group = text.partition(":")
    if not user or (colon and not group) or ":" in group:
        raise InvalidArgument(f"invalid chown string {text!r}: user or user:group was expected")
    if user.isascii() and user.isdigit():
        uid = gid = _number(user)
    else:
        uid, gid = _account(root, user)
    if group:
        gid = _number(group) if group.isascii() and group.isdigit() else _group(root, group)
    return uid, gid


def _number(digits: str) -> int:
    if len(digits) > 10 or int(digits) > MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}, not {digits[:20]}")
    return int(digits)


def _account(root: int, name: str) -> tuple[int, int]:
    for fields in _records(root, "etc/passwd", 4):
        if fields[0] == name:
            return _number(fields[2]), _number(fields[3])
    raise InvalidArgument(
        "unable to convert uid/gid chown string to host mapping: "
        f"can't find uid for user {name}: no such user: {name}"
    )


def _group(root: int, name: str) -> int:
    for fields in _records(root, "etc/group", 3):
        if fields[0] == name:
            return _number(fields[2])
    raise InvalidArgument(
        "unable to convert uid/gid chown string to host mapping: "
        f"can't find gid for group {name}: no such group: {name}"
    )


def _records(root: int, path: str, least: int) -> list[list[str]]:
    """The lines with at least so many fields and numbers for ids; a file that is not there has none."""
    try:
        data = paths.read_file(root, path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InvalidArgument(f"/{path} of the image cannot be read: {error.strerror}") from error
    records = (line.split(":") for line in data.decode(errors="surrogateescape").splitlines())
    return [
        fields for fields in records
        if len(fields) >= least and all(number.isascii() and number.isdigit() for number in fields[2:least])
    ]
