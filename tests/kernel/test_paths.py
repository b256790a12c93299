"""The path resolver on the real kernel: nothing gets out of the root, and what is inside is found."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux import paths


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    inside = tmp_path / "root"
    inside.mkdir()
    (tmp_path / "secret").write_text("outside")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def inside(tmp_path: Path, root: int) -> Path:
    return tmp_path / "root"


@pytest.mark.parametrize("path", ["../secret", "/../../secret", "up/secret", "abs", "a/../../secret"])
def test_no_way_out(root: int, inside: Path, path: str) -> None:
    (inside / "a").mkdir()
    (inside / "up").symlink_to("../..")
    (inside / "abs").symlink_to(inside.parent / "secret")
    with pytest.raises(FileNotFoundError) as error:
        paths.open_in_root(root, path, os.O_RDONLY)
    assert error.value.filename == path
    assert not paths.exists(root, path)


def test_absolute_link_means_the_root(root: int, inside: Path) -> None:
    (inside / "etc").mkdir()
    (inside / "etc/passwd").write_text("in")
    (inside / "link").symlink_to("/etc/passwd")
    assert paths.read_file(root, "/link", 100) == b"in"
    assert paths.read_file(root, b"../../link", 100) == b"in"
    assert stat.S_ISLNK(paths.lstat(root, "link").st_mode)
    assert stat.S_ISREG(paths.stat(root, "link").st_mode)


def test_magic_links_are_refused(root: int) -> None:
    proc = os.open("/", os.O_PATH)
    try:
        with pytest.raises(OSError, match="symbolic link") as error:
            paths.open_in_root(proc, f"proc/{os.getpid()}/root/etc", os.O_PATH)
        assert error.value.errno == errno.ELOOP
    finally:
        os.close(proc)


def test_a_nul_byte_is_refused(root: int) -> None:
    with pytest.raises(OSError, match="NUL"):
        paths.open_in_root(root, "a\0b", os.O_RDONLY)


def test_create_and_close_on_exec(root: int, inside: Path) -> None:
    fd = paths.open_in_root(root, "new", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640)
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert stat.S_IMODE((inside / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("path", "follow", "directory", "name"),
    [
        ("", False, "", "."), ("/", True, "", "."), ("..", True, "", "."), ("file", False, "", "file"),
        ("d/file/", False, "d", "file"), ("l", False, "", "l"), ("l", True, "d", "gone"),
        ("d/rel", True, "", "gone2"), ("chain", True, "d", "gone"), ("d/..", False, "", "."),
    ],
)
def test_open_parent(root: int, inside: Path, path: str, follow: bool, directory: str, name: str) -> None:
    (inside / "d").mkdir()
    (inside / "l").symlink_to("/d/gone")
    (inside / "d/rel").symlink_to("../../../gone2")
    (inside / "chain").symlink_to("l")
    fd, found = paths.open_parent(root, path, follow=follow)
    try:
        assert found == name
        assert os.path.samestat(os.fstat(fd), (inside / directory).stat())
    finally:
        os.close(fd)


def test_open_parent_of_a_loop(root: int, inside: Path) -> None:
    (inside / "loop").symlink_to("loop")
    with pytest.raises(OSError) as error:
        paths.open_parent(root, "loop", follow=True)
    assert error.value.errno == errno.ELOOP


def test_make_dirs(root: int, inside: Path) -> None:
    (inside / "have").mkdir(mode=0o700)
    (inside / "abs").symlink_to("/target/deep")
    (inside / "have/up").symlink_to("../../../beside")
    paths.make_dirs(root, "/have/up/../abs/x", 0o2751, 12, 34)
    made = (inside / "target/deep/x").stat()
    assert stat.S_IMODE(made.st_mode) == 0o2751
    assert (made.st_uid, made.st_gid) == (12, 34)
    assert (inside / "beside").is_dir()
    assert stat.S_IMODE((inside / "have").stat().st_mode) == 0o700
    assert sorted(entry.name for entry in inside.parent.iterdir()) == ["root", "secret"]


def test_make_dirs_over_a_file(root: int, inside: Path) -> None:
    (inside / "file").write_text("")
    with pytest.raises(NotADirectoryError) as error:
        paths.make_dirs(root, "file/x")
    assert error.value.filename == "file/x"
    (inside / "loop").symlink_to("loop")
    with pytest.raises(OSError):
        paths.make_dirs(root, "loop/x")
    assert len(os.listdir("/proc/self/fd")) < 50


@pytest.mark.parametrize(
    ("path", "real"),
    [("", "/"), ("l/x", "/d/x"), ("d/../l", "/d"), ("/../up/y/z", "/y/z"), ("d/file", "/d/file"),
     ("gone/a/b", "/d/no/a/b")],
)
def test_real_path(root: int, inside: Path, path: str, real: str) -> None:
    (inside / "d").mkdir()
    (inside / "d/file").touch()
    (inside / "l").symlink_to("/d")
    (inside / "up").symlink_to("../../..")
    (inside / "gone").symlink_to("d/no")
    assert paths.real_path(root, path) == real


def test_read_file_is_bounded_and_regular(root: int, inside: Path) -> None:
    (inside / "big").write_bytes(b"x" * 11)
    os.mkfifo(inside / "fifo")
    assert paths.read_file(root, "big", 11) == b"x" * 11
    with pytest.raises(OSError) as error:
        paths.read_file(root, "big", 10)
    assert error.value.errno == errno.EFBIG
    for path in ("fifo", "/"):
        with pytest.raises(OSError, match="regular"):
            paths.read_file(root, path, 10)


def test_remove_tree(root: int, inside: Path) -> None:
    (inside / "t/a/b").mkdir(parents=True)
    (inside / "t/a/file").write_text("x")
    (inside / "t/out").symlink_to(inside.parent)
    (inside / "t/a/secret").symlink_to("../../../secret")
    paths.remove_tree(root, "t")
    paths.remove_tree(root, "t")
    assert list(inside.iterdir()) == []
    assert (inside.parent / "secret").read_text() == "outside"


def test_remove_tree_of_a_link_removes_the_link(root: int, inside: Path) -> None:
    (inside / "link").symlink_to("..")
    paths.remove_tree(root, "link")
    assert (inside.parent / "secret").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_remove_tree_takes_one_component(root: int, name: str) -> None:
    with pytest.raises(OSError, match="single"):
        paths.remove_tree(root, name)


def test_remove_tree_of_any_depth(root: int, inside: Path) -> None:
    at = os.open(inside, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        os.mkdir("e", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    paths.remove_tree(root, "d")
    paths.remove_tree(root, "e")
    assert list(inside.iterdir()) == []


def test_remove_tree_stops_at_a_mount(inside: Path) -> None:
    (inside / "t/mounted").mkdir(parents=True)
    if os.fork() == 0:
        status = 1
        try:
            _bind_in_own_namespace(inside.parent, inside / "t/mounted")
            with pytest.raises(OSError) as error:
                paths.remove_tree(os.open(inside, os.O_PATH), "t")
            status = 0 if error.value.errno == errno.EXDEV and (inside.parent / "secret").exists() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


def _bind_in_own_namespace(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    assert libc.mount(b"none", b"/", None, 0x4000 | (1 << 18), None) == 0  # MS_REC | MS_PRIVATE
    assert libc.mount(bytes(source), bytes(target), None, 0x1000, None) == 0  # MS_BIND
