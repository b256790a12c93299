"""Tar streams of the command: what it writes others can read, what it reads is put nowhere else."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from sampan.cli.build_context import chooser, is_archive, open_context
from sampan.cli.failure import CommandFailed
from sampan.cli.tar_read import TarStream
from sampan.cli.tar_write import END, Entry, file_entry, header, padding
from sampan.cli.tree import TreeStream, gathered
from sampan.cli.unpack import Unpacker


def members(blocks: Iterator[bytes]) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as tar:
        return {member.name: member for member in tar}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "a").write_text("hello")
    (top / "a").chmod(0o640)
    (top / "link").symlink_to("/etc/passwd")
    os.link(top / "a", top / "hard")
    os.mkfifo(top / "pipe")
    (top / "sub" / "deep" / ("n" * 120)).write_bytes(b"x" * 1000)
    (top / "sub" / "ünï").write_text("")
    return top


def test_a_tree_is_written_as_tar(tree: Path) -> None:
    top = os.open(tree, os.O_RDONLY)
    try:
        found = members(gathered(TreeStream(top, prefix=b"root/").blocks()))
    finally:
        os.close(top)
    assert found["root/a"].mode == 0o640 and found["root/a"].size == 5 and found["root/a"].uid == 0
    assert found["root/link"].issym() and found["root/link"].linkname == "/etc/passwd"
    assert found["root/hard"].islnk() and found["root/hard"].linkname == "root/a"
    assert found["root/pipe"].isfifo()
    assert found["root/sub/deep/" + "n" * 120].size == 1000
    assert found["root/sub/ünï"].size == 0
    assert found["root/sub/deep"].isdir()


@settings(max_examples=50)
@given(
    name=some.binary(min_size=1, max_size=300).filter(lambda name: not set(name) & {0, 10} and name[-1:] != b"/"),
    size=some.integers(0, 2000), mtime=some.integers(-10, 2**40), mode=some.integers(0, 0o7777),
    uid=some.integers(0, 2**32 - 2),
)
def test_what_is_written_is_read(name: bytes, size: int, mtime: int, mode: int, uid: int) -> None:
    entry = Entry(name, size=size, mtime=mtime, mode=mode, uid=uid)
    stream = TarStream(iter([header(entry) + b"y" * size + padding(size) + END]))
    found = next(stream.entries())
    assert (found.name, found.size, found.mtime, found.mode, found.uid) == (name, size, mtime, mode, uid)
    assert b"".join(stream.content()) == b"y" * size


def test_gnu_and_base_256_are_read() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("d/" + "n" * 200)
        info.size, info.uid, info.mtime = 3, 3_000_000_000, 5
        tar.addfile(info, io.BytesIO(b"abc"))
    stream = TarStream(iter([data.getvalue()]))
    entry = next(stream.entries())
    assert entry.name == b"d/" + b"n" * 200 and entry.uid == 3_000_000_000
    assert b"".join(stream.content()) == b"abc"


@pytest.mark.parametrize("data", [
    b"x" * 512, header(Entry(b"a", size=100)) + b"short",
    header(Entry(b"a", kind=b"x", size=2 << 20)),
    header(Entry(b"a", kind=b"x", size=20)) + b"99 path=x\n".ljust(512, b"\0"),
])
def test_broken_archives(data: bytes) -> None:
    stream = TarStream(iter([data]))
    with pytest.raises(CommandFailed, match="broken archive"):
        for _ in stream.entries():
            list(stream.content())


@settings(max_examples=100)
@given(some.binary(max_size=2000), some.integers(0, 600))
def test_any_bytes_are_an_archive_or_an_error(data: bytes, cut: int) -> None:
    good = file_entry(b"a", b"hello") + END
    try:
        for _ in TarStream(iter([good[:cut] + data])).entries():
            pass
    except CommandFailed:
        pass


def unpack(top: Path, archive: bytes, root: str = "", keep_owner: bool = False) -> None:
    fd = os.open(top, os.O_RDONLY)
    try:
        Unpacker(fd, root, keep_owner).unpack(iter([archive]))
    finally:
        os.close(fd)


def archive(*entries: tuple[Entry, bytes]) -> bytes:
    return b"".join(header(entry) + data + padding(len(data)) for entry, data in entries) + END


def test_unpacking(tmp_path: Path) -> None:
    data = archive(
        (Entry(b"src/", kind=b"5", mode=0o755), b""), (Entry(b"src/a", size=2, mode=0o4755), b"hi"),
        (Entry(b"src/l", kind=b"2", link=b"a"), b""), (Entry(b"src/h", kind=b"1", link=b"src/a"), b""),
    )
    unpack(tmp_path, data, root="new")
    assert (tmp_path / "new" / "a").read_text() == "hi"
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == 0o755, "set-id bits are for --archive"
    assert os.readlink(tmp_path / "new" / "l") == "a"
    assert (tmp_path / "new" / "h").stat().st_ino == (tmp_path / "new" / "a").stat().st_ino
    unpack(tmp_path, data)
    assert (tmp_path / "a").read_text() == "hi"


@pytest.mark.parametrize("entries", [
    [(Entry(b"src/../../out", size=1), b"x")],
    [(Entry(b"src/l", kind=b"2", link=b"OUT"), b""), (Entry(b"src/l/x", size=1), b"x")],
    [(Entry(b"src/l", kind=b"2", link=b"OUT"), b""), (Entry(b"src/l/", kind=b"5", mode=0o777), b"")],
    [(Entry(b"src/h", kind=b"1", link=b"src/../../secret"), b"")],
])
def test_an_archive_cannot_lead_out(entries: list[tuple[Entry, bytes]], tmp_path: Path) -> None:
    """CVE-2019-10152, CVE-2018-15664: a container's files are copied by a tar that the container can shape."""
    top, out = tmp_path / "top", tmp_path / "out"
    top.mkdir()
    out.mkdir(mode=0o700)
    (tmp_path / "secret").write_text("s")
    for entry, _ in entries:
        entry.link = entry.link.replace(b"OUT", os.fsencode(out))
    with pytest.raises((CommandFailed, OSError)):
        unpack(top, archive(*entries))
    assert list(out.iterdir()) == [] and stat.S_IMODE(out.stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "secret", "top"]
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_a_symlink_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a").symlink_to("../victim")
    unpack(tmp_path / "top", archive((Entry(b"./a", size=3), b"new")))
    assert (tmp_path / "victim").read_text() == "old"
    assert (tmp_path / "top" / "a").read_text() == "new"


# -- build contexts


@pytest.fixture
def context(tmp_path: Path) -> Path:
    top = tmp_path / "context"
    (top / "keep" / "inner").mkdir(parents=True)
    (top / "skip" / "inner").mkdir(parents=True)
    for name in ("Dockerfile", "a.txt", "a.log", "keep/b.log", "keep/inner/c", "skip/d", "skip/inner/e"):
        (top / name).write_text(name)
    (top / ".dockerignore").write_text("*.log\nskip\n!skip/inner\nDockerfile\n")
    return top


def sent(path: Path, dockerfile: str = "") -> tuple[dict[str, tarfile.TarInfo], str]:
    opened = open_context(str(path), dockerfile)
    try:
        return members(opened.blocks), opened.dockerfile
    finally:
        opened.close()


def test_dockerignore_is_applied(context: Path) -> None:
    found, dockerfile = sent(context)
    assert dockerfile == "Dockerfile"
    assert {".dockerignore", "Dockerfile", "a.txt", "keep/b.log", "keep/inner/c", "skip/inner/e"} <= set(found)
    assert not {"a.log", "skip/d"} & set(found)


def test_a_dockerfile_from_elsewhere_comes_along(context: Path, tmp_path: Path) -> None:
    (tmp_path / "Other").write_text("FROM x")
    found, dockerfile = sent(context, str(tmp_path / "Other"))
    assert dockerfile.startswith(".dockerfile.") and found[dockerfile].size == 6
    assert found[".dockerignore"].size > (context / ".dockerignore").stat().st_size
    assert sent(context, str(context / "keep" / "inner" / "c"))[1] == "keep/inner/c"


@pytest.mark.parametrize(("path", "dockerfile", "message"), [
    ("nowhere", "", "no such file or directory"), ("context/a.txt", "", "is not a directory"),
    ("context/keep", "", "no Dockerfile at"), ("context", "nope", "no Dockerfile at nope"),
])
def test_contexts_that_cannot_be(context: Path, path: str, dockerfile: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=message):
        sent(tmp_path / path, dockerfile)


def test_nothing_is_kept_by_accident() -> None:
    choose = chooser(b"**\n!a\n", keep=("d/Dockerfile",), added=False)
    assert choose("a", False)[0] and not choose("b", False)[0]
    assert choose("d", True) == (False, True) and choose("d/Dockerfile", False)[0]


def test_archives_are_known_by_their_first_bytes() -> None:
    assert is_archive(file_entry(b"a", b"")) and is_archive(b"\x1f\x8b...") and is_archive(b"\x28\xb5\x2f\xfd")
    assert not is_archive(b"FROM busybox\n")
