"""Entries to tar bytes: ustar where an entry fits, a pax header where it does not. The same entry, the same bytes."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.image.tar.entry import BLOCK, DIRECTORY, Entry, shown
from sampan.image.tar.header import checksum

END = bytes(2 * BLOCK)
_MAX_OCTAL = {8: 0o7777777, 12: 0o77777777777}


def padding(size: int) -> bytes:
    """What follows `size` bytes of content up to the next block."""
    return bytes(-size % BLOCK)


def header(entry: Entry) -> bytes:
    """All header blocks of an entry; then come `entry.size` bytes of content and their `padding`.

    Raises InvalidArgument for extended attributes whose name the format cannot hold.
    """
    name = entry.name + b"/" if entry.kind == DIRECTORY and not entry.name.endswith(b"/") else entry.name
    pax: dict[bytes, bytes] = {}
    prefix, short = _split(name)
    if short is None or not name.isascii():
        pax[b"path"] = name
        short = short if short is not None else name[:100]
    if len(entry.link) > 100 or not entry.link.isascii():
        pax[b"linkpath"] = entry.link
    seconds, fraction = divmod(entry.mtime, 10**9)
    if fraction or not 0 <= seconds <= _MAX_OCTAL[12]:
        pax[b"mtime"] = _time(entry.mtime)
        seconds = max(0, min(seconds, _MAX_OCTAL[12]))
    block = _block(
        short, prefix, entry.kind, entry.mode, _fit(pax, b"uid", entry.uid, 8), _fit(pax, b"gid", entry.gid, 8),
        _fit(pax, b"size", entry.size, 12), seconds, entry.link[:100], entry.major, entry.minor,
    )
    for key, value in entry.xattrs.items():
        if "=" in key or not key.isascii():
            raise InvalidArgument(f"{shown(entry.name)!r} has an extended attribute with an impossible name")
        pax[b"SCHILY.xattr." + key.encode()] = value
    return _pax(short, pax) + block if pax else block


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name as ustar divides long names; None if it cannot."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156) if len(name) <= 256 else -1
    rest = name[cut + 1 :]
    if cut <= 0 or not rest or len(rest) > 100:
        return b"", None
    return name[:cut], rest


def _fit(pax: dict[bytes, bytes], key: bytes, value: int, width: int) -> int:
    if value <= _MAX_OCTAL[width]:
        return value
    pax[key] = b"%d" % value
    return 0


def _pax(short: bytes, pax: dict[bytes, bytes]) -> bytes:
    raw = [pax.get(b"path", b""), pax.get(b"linkpath", b"")]
    if any(not _is_utf8(value) for value in raw):
        pax = {b"hdrcharset": b"BINARY", **pax}
    data = b"".join(_record(key, value) for key, value in sorted(pax.items()))
    name = (b"PaxHeaders.0/" + short.rstrip(b"/").rpartition(b"/")[2])[:100]
    return _block(name, b"", b"x", 0o644, 0, 0, len(data), 0, b"", 0, 0) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, where the length counts its own digits."""
    length = len(key) + len(value) + 3
    size = length + len(str(length))
    size = length + len(str(size))
    return b"%d %s=%s\n" % (size, key, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return sign + b"%d" % seconds + (b".%09d" % fraction).rstrip(b"0").rstrip(b".")


def _block(
    name: bytes, prefix: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes,
    major: int, minor: int,
) -> bytes:
    block = b"%-100b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%b%b%b%07o\0%07o\0%b%b" % (
        name.ljust(100, b"\0"), mode, uid, gid, size, mtime, kind, link.ljust(100, b"\0"), b"ustar\00000",
        bytes(64), major, minor, prefix.ljust(155, b"\0"), bytes(12),
    )
    return block[:148] + b"%06o\0 " % checksum(block) + block[156:]
