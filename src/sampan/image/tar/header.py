"""Tar header blocks to entries. Pure functions of bytes, every number and length bounded."""

from __future__ import annotations

import zlib

from sampan.errors import InvalidArgument
from sampan.image.tar.entry import BLOCK, BLOCKDEV, CHAR, DIRECTORY, FILE, KINDS, Entry, shown

LONG_NAME = b"L"
LONG_LINK = b"K"
PAX = b"x"
PAX_GLOBAL = b"g"

MAX_SPECIAL = 1 << 20  # bytes of a pax header or a GNU long name, as Go's reader
MAX_SIZE = 1 << 62
MAX_ID = (1 << 32) - 2  # 2^32-1 means "leave as it is" to chown(2): CVE-2024-40635 is a uid that wraps
MAX_TIME = (1 << 33) * 10**9
_XATTR = b"SCHILY.xattr."
_WITHOUT_DATA = KINDS - {FILE}

ZERO_BLOCK = bytes(BLOCK)


def checksum(block: bytes) -> int:
    """The sum of the header's bytes with its own field taken as blanks.

    adler32's low half is 1 + the sum mod 65521, which is exact for 256 bytes: 20 times faster than sum().
    """
    total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    return total - sum(block[148:156]) + 8 * 32


def number(field: bytes, what: str) -> int:
    """A numeric header field: octal digits, or GNU's base 256 if the first bit is set. Empty is 0."""
    digits = field.rstrip(b"\0 ")
    if not digits.isdigit():
        if field[0] & 0x80:
            return _base256(field)
        digits = field.split(b"\0", 1)[0].strip(b" ") or b"0"
    try:
        if digits.isdigit():  # int() alone also takes signs, blanks, underscores and "0o"
            return int(digits, 8)
    except ValueError:
        pass  # an 8 or a 9
    raise InvalidArgument(f"invalid tar header: {what} is not a number")


def _base256(field: bytes) -> int:
    bits = 8 * len(field) - 1
    value = int.from_bytes(field, "big") & ((1 << bits) - 1)
    return value - (1 << bits) if field[0] & 0x40 else value


def text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def parse(block: bytes) -> Entry:
    """The entry of one header block; for LONG_NAME, LONG_LINK, PAX and PAX_GLOBAL `size` bytes of its content follow.

    Raises InvalidArgument for a wrong checksum and for types that no file system object corresponds to.
    """
    stored = number(block[148:156], "the checksum")
    if stored != checksum(block) and stored != _signed(block):
        raise InvalidArgument("invalid tar header: the checksum does not match")
    name, kind, magic = text(block[0:100]), block[156:157], block[257:265]
    entry = Entry(
        name, kind, number(block[100:108], "the mode") & 0o7777,
        number(block[108:116], "the uid"), number(block[116:124], "the gid"),
        number(block[124:136], "the size"), number(block[136:148], "the time") * 10**9, text(block[157:257]),
    )
    if magic[:6] == b"ustar\0" and (prefix := text(block[345:500])):
        entry.name = prefix + b"/" + name
    if kind in (CHAR, BLOCKDEV):
        entry.major, entry.minor = number(block[329:337], "the device"), number(block[337:345], "the device")
    if kind in (b"\0", b"7"):
        entry.kind = FILE
        if kind == b"\0" and entry.name.endswith(b"/"):  # how archives before ustar marked directories
            entry.kind = DIRECTORY
    return entry


def _signed(block: bytes) -> int:
    """The sum some old writers made, of signed characters."""
    return checksum(block) - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def complete(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """Apply a pax header to its entry and check what came out."""
    for key, value in pax.items():
        if key.startswith(_XATTR):
            entry.xattrs[_attribute(key)] = value
        elif key.startswith(b"GNU.sparse."):
            raise sparse(entry)
    entry.name = _path(pax, b"path", entry.name)
    entry.link = _path(pax, b"linkpath", entry.link)
    if b"size" in pax:
        entry.size = decimal(pax[b"size"], "the size")
    if b"uid" in pax:
        entry.uid = decimal(pax[b"uid"], "the uid")
    if b"gid" in pax:
        entry.gid = decimal(pax[b"gid"], "the gid")
    if b"mtime" in pax:
        entry.mtime = time(pax[b"mtime"])


def check(entry: Entry) -> None:
    """Refuse what cannot be meant, and drop what a type has no use for."""
    if entry.kind == b"S":
        raise sparse(entry)
    if entry.kind not in KINDS:
        raise InvalidArgument(f"tar entry {shown(entry.name)!r} is of the unknown type {shown(entry.kind)!r}")
    if not entry.name:
        raise InvalidArgument("invalid tar header: an entry without a name")
    if not 0 <= entry.size <= MAX_SIZE:
        raise InvalidArgument(f"tar entry {shown(entry.name)!r} has an invalid size")
    if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
        raise InvalidArgument(f"tar entry {shown(entry.name)!r} has an owner out of range")
    if entry.kind in _WITHOUT_DATA:
        entry.size = 0
    entry.mtime = max(-MAX_TIME, min(MAX_TIME, entry.mtime))


def sparse(entry: Entry) -> InvalidArgument:
    return InvalidArgument(
        f"tar entry {shown(entry.name)!r} is stored as a sparse file, which is not supported: "
        "make the archive without --sparse"
    )


def records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: `<length> <key>=<value>\\n`, the last of a key counts, an empty value deletes it."""
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        blank = data.find(b" ", position, position + 8)
        digits = data[position:blank]
        if blank < 0 or not digits.isdigit():
            raise InvalidArgument("invalid tar header: a pax record without a length")
        end = position + int(digits)
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise InvalidArgument("invalid tar header: a damaged pax record")
        if value:
            found[key] = value
        else:
            found.pop(key, None)
        position = end
    return found


def _path(pax: dict[bytes, bytes], key: bytes, default: bytes) -> bytes:
    value = pax.get(key, default)
    if b"\0" in value:
        raise InvalidArgument("invalid tar header: a name with a NUL byte")
    return value


def _attribute(key: bytes) -> str:
    name = key[len(_XATTR) :]
    if b"\0" in name or not name.isascii():
        raise InvalidArgument("invalid tar header: an extended attribute without a proper name")
    return name.decode("ascii")


def decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise InvalidArgument(f"invalid tar header: {what} is {shown(value)!r}")
    return int(value)


def time(value: bytes) -> int:
    """Seconds with decimals ("-1.5") to nanoseconds."""
    whole, _, fraction = value.lstrip(b"-").partition(b".")
    if value.startswith(b"--") or len(whole) > 12 or not (whole + b"0" + fraction).isdigit():
        raise InvalidArgument(f"invalid tar header: the time is {shown(value)!r}")
    nanoseconds = int(whole or b"0") * 10**9 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if value.startswith(b"-") else nanoseconds
