"""The tar format against Python's own tarfile, both ways."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.image.tar import header, write
from sampan.image.tar.entry import BLOCK, CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from sampan.image.tar.read import Reader

NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)
KINDS = {
    tarfile.REGTYPE: FILE, tarfile.DIRTYPE: DIRECTORY, tarfile.SYMTYPE: SYMLINK, tarfile.LNKTYPE: HARDLINK,
    tarfile.CHRTYPE: CHAR,
}


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(PATHS))
    info.type = draw(st.sampled_from(sorted(KINDS)))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, header.MAX_ID)), draw(st.integers(0, header.MAX_ID))
    info.mtime = draw(st.integers(0, 2**33 - 1))
    content = b""
    if info.type == tarfile.REGTYPE:
        content = draw(st.binary(max_size=1500))
        info.size = len(content)
    elif info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(PATHS)
    elif info.type == tarfile.CHRTYPE:
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20))
    return info, content


def pieces(data: bytes, step: int) -> Callable[[], bytes]:
    source = io.BytesIO(data)
    return lambda: source.read(step)


def read(data: bytes, step: int = 1 << 16) -> list[tuple[Entry, bytes]]:
    reader = Reader(pieces(data, step))
    return [(entry, reader.content(1 << 20)) for entry in reader.entries()]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(members(), max_size=6), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([1, 7, 512, 700, 1 << 16]),
)
def test_reads_what_tarfile_wrote(
    archive: list[tuple[tarfile.TarInfo, bytes]], form: int, step: int
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in archive:
            tar.addfile(info, io.BytesIO(content))
    found = read(buffer.getvalue(), step)
    assert len(found) == len(archive)
    for (info, content), (entry, data) in zip(archive, found, strict=True):
        assert entry.name.rstrip(b"/").decode() == info.name.rstrip("/")
        assert (entry.kind, entry.mode, entry.uid, entry.gid) == (KINDS[info.type], info.mode, info.uid, info.gid)
        assert (entry.link.decode(), entry.mtime, data) == (info.linkname, info.mtime * 10**9, content)
        if info.type == tarfile.CHRTYPE:
            assert (entry.major, entry.minor) == (info.devmajor, info.devminor)


@settings(max_examples=150, deadline=None)
@given(st.lists(members(), max_size=6), st.integers(-(2**40), 2**62), st.binary(min_size=1, max_size=300))
def test_tarfile_and_we_read_what_we_wrote(
    archive: list[tuple[tarfile.TarInfo, bytes]], mtime: int, attribute: bytes
) -> None:
    entries = [
        Entry(
            os.fsencode(info.name), KINDS[info.type], info.mode, info.uid, info.gid, info.size, mtime,
            os.fsencode(info.linkname), info.devmajor, info.devminor,
            {"user.x": attribute} if info.type == tarfile.REGTYPE else {},
        )
        for info, _ in archive
    ]
    data = b"".join(
        write.header(entry) + content + write.padding(len(content))
        for entry, (_, content) in zip(entries, archive, strict=True)
    ) + write.END
    assert len(data) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info, (wanted, content) in zip(tar, archive, strict=True):
            assert (info.name, info.type, info.mode) == (wanted.name.rstrip("/"), wanted.type, wanted.mode)
            assert (info.uid, info.gid, info.size) == (wanted.uid, wanted.gid, wanted.size)
            assert (info.linkname, info.devmajor, info.devminor) == (wanted.linkname, wanted.devmajor, wanted.devminor)
            reader = tar.extractfile(info) if info.isreg() else None
            assert reader is None or reader.read() == content
    for entry, (back, content) in zip(entries, read(data), strict=True):
        back.name = back.name.rstrip(b"/")
        assert back == Entry(
            entry.name, entry.kind, entry.mode, entry.uid, entry.gid, len(content),
            max(-header.MAX_TIME, min(header.MAX_TIME, mtime)), entry.link, entry.major, entry.minor, entry.xattrs,
        )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    try:
        read(data)
    except InvalidArgument:
        pass


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 511), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_refused_or_read(position: int, value: int, repair: bool) -> None:
    block = bytearray(write.header(Entry(b"name", size=3, mtime=10**9)))
    block[position] = value
    if repair:
        block[148:156] = b"%06o\0 " % header.checksum(bytes(block))
    try:
        read(bytes(block) + b"abc" + write.padding(3) + write.END)
    except InvalidArgument:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=512, max_size=512))
def test_the_quick_checksum_is_the_sum(block: bytes) -> None:
    assert header.checksum(block) == sum(block[:148]) + 8 * 32 + sum(block[156:])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644), (b"   644 \0", 0o644), (b"644\0junk", 0o644), (b"\0" * 8, 0), (b" " * 8, 0),
        (b"\x80" + b"\0" * 10 + b"\x09", 9), (b"\xff" * 12, -1),
        (b"\x80" + b"\x7f" + b"\xff" * 10, (0x7F + 1 << 80) - 1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert header.number(field, "it") == value


@pytest.mark.parametrize("field", [b"0000_644", b"-0000644", b"+0000644", b"0o000644", b"0000894\0", b"abc\0\0\0\0\0"])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(InvalidArgument, match="invalid tar header"):
        header.number(field, "it")


@pytest.mark.parametrize(
    "data",
    [
        b"5 a=", b"0 a=b\n", b"6 a=bc\n", b"99 a=b\n", b"a=b\n", b"6  a=b\n", b"-6 a=b\n", b"5 abc\n",
        b"99999999999999999999 a=b\n", b"4 =\n\n", b"6 a=b\0",
    ],
)
def test_damaged_pax_records(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        header.records(data)


def test_pax_records() -> None:
    assert header.records(b"6 a=b\n6 a=c\n6 b=1\n5 b=\n13 k=with\nnl\n") == {b"a": b"c", b"k": b"with\nnl"}


@pytest.mark.parametrize(
    ("value", "nanoseconds"), [(b"1", 10**9), (b"1.5", 1_500_000_000), (b"-0.5", -500_000_000), (b"0.0000000019", 1)]
)
def test_times(value: bytes, nanoseconds: int) -> None:
    assert header.time(value) == nanoseconds


@pytest.mark.parametrize("value", [b"", b".", b"1e9", b"nan", b"--1", b"1.5.5", b"9" * 30])
def test_what_is_no_time(value: bytes) -> None:
    if value in (b"", b"."):
        assert header.time(value) == 0
        return
    with pytest.raises(InvalidArgument):
        header.time(value)


def test_an_old_directory_is_one_by_its_slash() -> None:
    block = bytearray(write.header(Entry(b"old/", FILE)))
    block[156] = 0
    block[148:156] = b"%06o\0 " % header.checksum(bytes(block))
    assert read(bytes(block) + write.END)[0][0].kind == DIRECTORY


def test_the_end() -> None:
    one = write.header(Entry(b"a"))
    assert len(read(one)) == 1  # an archive may stop without its zero blocks
    assert len(read(one + write.END + b"trailing" * 1000)) == 1
    assert read(b"") == []
    with pytest.raises(InvalidArgument, match="zero block"):
        read(one + bytes(BLOCK) + one)
    with pytest.raises(InvalidArgument, match="unexpected end"):
        read(write.header(Entry(b"a", size=5)) + b"abc")
    with pytest.raises(InvalidArgument, match="unexpected end"):
        read(one[:100])


def test_sparse_files_are_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("holes")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        tar.addfile(info)
    with pytest.raises(InvalidArgument, match="--sparse"):
        read(buffer.getvalue())
