"""Who the process will be: by ids as the OCI spec gives them, or "user[:group]" looked up in the container's own files.

Never by NSS. Numbers are numbers, whatever /etc/passwd says (CVE-2016-3697, 2026-46680, 2026-30892); files are regular
and bounded (2024-9676, 2026-47262); ids fit (2024-40635). Reading happens by descriptor, in the root.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.lean.record import dataclass
from sampan.linux import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.oci import runtime as oci

MAX_ID = 2**31 - 1
"""Of ids that are written as text, as in Docker."""
MAX_KERNEL_ID = 2**32 - 2
"""Of ids that are numbers in a spec: one more is "leave it as it is" to setresuid(2), which would be root."""
MAX_FILE = 10 << 20


@dataclass(frozen=True)
class Identity:
    """`groups` are the supplementary ones, with the primary among them if a name was looked up. `home` is a path
    inside, "/" if unknown.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(user: oci.User, root: int) -> Identity:
    """The ids for a spec's user. `username` holds Docker's "user[:group]" and wins over uid and gid when given.

    Raises InvalidArgument with Docker's words: "unable to find user x: no matching entries in passwd file".
    """
    if not user.username:
        return by_ids(user, root)
    name, separator, group = user.username.partition(":")
    uid, gid, home, login = _find_user(root, name)
    if separator and group:
        gid = _find_group(root, group)
        groups: list[int] = []
    else:
        groups = _groups_of(root, login) if login else []
    extra = [*user.additional_gids, *(_find_group(root, entry) for entry in user.additional_groups)]
    return Identity(uid, gid, _with_primary(gid, [*groups, *extra]), home)


def by_ids(user: oci.User, root: int) -> Identity:
    """The ids as the spec has them: an OCI runtime does not look at `username`. Only the home directory is looked up,
    and a passwd file that cannot be read, or should not be, costs no more than that.

    Raises InvalidArgument for an id that is none.
    """
    for number, what in ((user.uid, "user"), (user.gid, "group"), *((gid, "group") for gid in user.additional_gids)):
        _check_range(number, what, MAX_KERNEL_ID)
    try:
        home = next((entry[5] for entry in _entries(root, "/etc/passwd", 7) if entry[2] == str(user.uid)), "")
    except OSError:  # a FIFO, a device, a giant: no reason not to start what gave its ids as numbers
        home = ""
    return Identity(user.uid, user.gid, tuple(dict.fromkeys(user.additional_gids)), home or "/")


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
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 10:  # before int(): a megabyte of digits takes its time
        raise InvalidArgument(f"{what} id {text[:20]} is out of range: ids go from 0 to {MAX_ID}")
    return _check_range(int(text), what, MAX_ID)


def _check_range(number: int, what: str, limit: int) -> int:
    if not 0 <= number <= limit:
        raise InvalidArgument(f"{what} id {number} is out of range: ids go from 0 to {limit}")
    return number


def _entries(root: int, path: str, fields: int) -> Iterator[list[str]]:
    try:
        text = paths.read_file(root, path, MAX_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in text.decode("utf-8", "replace").split("\n"):
        entry = line.split(":")
        if len(entry) >= fields and not line.startswith("#") and "\0" not in line:  # as no environment can hold it
            yield entry
