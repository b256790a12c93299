"""Who the process will be: "user[:group]" looked up in the container's own files, never by NSS.

Numbers are numbers, whatever /etc/passwd says (CVE-2016-3697, 2026-46680); files are regular and bounded
(2024-9676, 2026-47262); ids fit 31 bits (2024-40635). Reading happens by descriptor, in the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.linux import paths
from sampan.oci import runtime as oci

MAX_ID = 2**31 - 1
MAX_FILE = 10 << 20
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(user: oci.User, root: int) -> Identity:
    """The ids for a spec's user. `username` holds Docker's "user[:group]" and wins over uid and gid when given.

    Raises InvalidArgument with Docker's words: "unable to find user x: no matching entries in passwd file".
    """
    if not user.username:
        home = next((entry[5] for entry in _entries(root, "/etc/passwd", 7) if entry[2] == str(user.uid)), "/")
        return Identity(user.uid, user.gid, _with_primary(user.gid, user.additional_gids), home or "/")
    name, separator, group = user.username.partition(":")
    uid, gid, home, login = _find_user(root, name)
    if separator and group:
        gid = _find_group(root, group)
        groups: list[int] = []
    else:
        groups = _groups_of(root, login) if login else []
    extra = [*user.additional_gids, *(_find_group(root, entry) for entry in user.additional_groups)]
    return Identity(uid, gid, _with_primary(gid, [*groups, *extra]), home)


def _with_primary(gid: int, others: list[int]) -> tuple[int, ...]:
    """The primary group is one of the supplementary ones, or dropping it would gain rights (CVE-2022-36109)."""
    return tuple(dict.fromkeys([gid, *others]))


def _find_user(root: int, name: str) -> tuple[int, int, str, str]:
    """(uid, primary gid, home, login name or ""). A number needs no entry; its gid is then 0, its home /."""
    number = _number(name, "user")
    for entry in _entries(root, "/etc/passwd", 7):
        if entry[0] == name if number is None else entry[2] == str(number):
            uid, gid = _number(entry[2], "user"), _number(entry[3], "group")
            if uid is not None and gid is not None:
                return uid, gid, entry[5] or "/", entry[0]
    if number is None:
        raise InvalidArgument(f"unable to find user {name}: no matching entries in passwd file")
    return number, 0, "/", ""


def _find_group(root: int, name: str) -> int:
    number = _number(name, "group")
    if number is not None:
        return number
    for entry in _entries(root, "/etc/group", 4):
        if entry[0] == name and (gid := _number(entry[2], "group")) is not None:
            return gid
    raise InvalidArgument(f"unable to find group {name}: no matching entries in group file")


def _groups_of(root: int, login: str) -> list[int]:
    return [
        gid
        for entry in _entries(root, "/etc/group", 4)
        if login in entry[3].split(",") and (gid := _number(entry[2], "group")) is not None
    ]


def _number(text: str, what: str) -> int | None:
    if not _DIGITS.fullmatch(text):
        return None
    if len(text) > 10 or int(text) > MAX_ID:
        raise InvalidArgument(f"{what} id {text[:20]} is out of range: ids go from 0 to {MAX_ID}")
    return int(text)


def _entries(root: int, path: str, fields: int) -> Iterator[list[str]]:
    try:
        text = paths.read_file(root, path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in text.decode("utf-8", "replace").split("\n"):
        entry = line.split(":")
        if len(entry) >= fields and not line.startswith("#"):
            yield entry
