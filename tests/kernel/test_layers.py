"""Layers on the real file system and under a real overlay: unpacked, changed, committed, unpacked again."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from layer_fixture import archive, hardlink, listing, member, memory_file, new_layout, run, symlink
from sampan.errors import InvalidArgument, NotFound, OutOfSpace
from sampan.image import changes, layer, rootfs
from sampan.image.jobs import JOBS
from sampan.image.layout import LayerRef, Layout
from sampan.image.stream import Source
from sampan.linux import mount

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ATTRIBUTES = {"user.note": b"hi", "security.capability": CAPABILITY}
ZSTD = zstandard.ZstdCompressor().compress


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_layout(tmp_path / "data")


def unpack(layout: Layout, data: bytes) -> LayerRef:
    fd = memory_file(data)
    try:
        ref, warnings = layer.unpack(layout, Source(fd))
    finally:
        os.close(fd)
    assert warnings == []
    return ref


def merged(*lower: str) -> dict[str, tuple[object, ...]]:
    fd = rootfs.layers(lower)
    top = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    try:
        return listing(top)
    finally:
        os.close(top)
        os.close(fd)


def everything() -> bytes:
    return archive(
        member("./", mode=0o711, uid=7),
        member("./bin/su", b"#!", mode=0o4755, uid=1, gid=2, xattrs=ATTRIBUTES),
        member("./bin", mode=0o1777, mtime=1_234_567_890),
        hardlink("./bin/also", "bin/su"),
        symlink("./lib", "/usr/lib"),
        symlink("./out", "../../../../etc"),
        member("./fifo", type=tarfile.FIFOTYPE, mode=0o600),
        member("./null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("./disk", type=tarfile.BLKTYPE, devmajor=7, devminor=9, mode=0o660, gid=6),
        member("./big", os.urandom(700_000), mtime=5),
        member("./" + "long/" * 30 + "name", b"deep"),
        member("./ümlaut-\udcff", b"not utf-8"),
        hardlink("./out2", "out"),
    )


def test_everything_a_tar_can_hold(layout: Layout) -> None:
    ref = unpack(layout, everything())
    root = Path(layout.layer_dir(ref.diff_id))
    top = root.stat()
    assert (stat.S_IMODE(top.st_mode), top.st_uid) == (0o711, 7)
    seen = (root / "bin/su").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_nlink) == (0o4755, 1, 2, 2)
    assert os.getxattr(root / "bin/su", "user.note") == b"hi"
    assert os.getxattr(root / "bin/su", "security.capability") == CAPABILITY
    assert (root / "bin").stat().st_mtime == 1_234_567_890
    assert stat.S_IMODE((root / "bin").stat().st_mode) == 0o1777
    assert (root / "bin/also").samefile(root / "bin/su")
    assert os.readlink(root / "out") == "../../../../etc" == os.readlink(root / "out2")
    assert stat.S_ISFIFO((root / "fifo").stat().st_mode)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((root / "disk").stat().st_mode)
    assert stat.S_IMODE((root / "long").stat().st_mode) == 0o755
    assert (root / ("long/" * 30) / "name").read_bytes() == b"deep"
    assert os.path.exists(os.fsencode(root) + "/ümlaut-".encode() + b"\xff")
    assert ref.size == 700_000 + 2 + 4 + 9
    assert os.listdir(layout.tmp) == []


@pytest.mark.parametrize(
    ("compress", "kind"),
    [
        (lambda data: data, "gzip"), (gzip.compress, "gzip"), (bz2.compress, "gzip"), (lzma.compress, "gzip"),
        (ZSTD, "zstd"),
        (lambda data: gzip.compress(data[:3000]) + gzip.compress(data[3000:]) + bytes(100), "gzip"),
    ],
    ids=["plain", "gzip", "bzip2", "xz", "zstd", "gzip members"],
)
def test_compressions(layout: Layout, compress: Callable[[bytes], bytes], kind: str) -> None:
    data = everything()
    sent = compress(data)
    ref = unpack(layout, sent)
    blob = Path(layout.blob_path(ref.blob_digest)).read_bytes()
    assert ref.media_type.endswith(kind)
    assert len(blob) == ref.blob_size
    assert blob == sent or gzip.decompress(blob) == data
    assert unpack(layout, data).diff_id == ref.diff_id
    assert len(os.listdir(layout.layers)) == 4  # the layer, its record, empty, .lock


@pytest.mark.parametrize("cut", [10, 2000, 500_000])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, ZSTD])
def test_a_cut_archive_leaves_nothing(layout: Layout, compress: Callable[[bytes], bytes], cut: int) -> None:
    with pytest.raises(InvalidArgument, match=r"unexpected end|invalid|not valid"):
        unpack(layout, compress(everything())[:cut])
    assert os.listdir(layout.tmp) == os.listdir(layout.blobs) == []
    assert os.listdir(layout.layers) == ["empty"]


def test_whiteouts_hide_what_is_below(layout: Layout) -> None:
    lower = unpack(layout, archive(
        member("gone", b"x"), member("dir"), member("dir/old", b"x"), member("dir/sub"), member("tree/a/b/c", b"x"),
        member("again", b"old"), member("redir"), member("redir/old", b"x"),
    ))
    upper = unpack(layout, archive(
        member(".wh.gone", b""), member("dir"), member("dir/.wh..wh..opq", b""), member("dir/new", b"y"),
        member("tree/a/.wh.b", b""), member("again", b"new"), member(".wh.again", b""), member(".wh.redir", b""),
        member("redir"), member(".wh..wh.plnk", b""),
    ))
    seen = merged(layout.layer_dir(upper.diff_id), layout.layer_dir(lower.diff_id))
    assert sorted(seen) == ["again", "dir", "dir/new", "redir", "tree", "tree/a"]
    assert seen["again"][5] == (b"new", {})


def change(root: Path) -> None:
    """What a container may do to its files."""
    shutil.rmtree(root / "long")
    (root / "long").mkdir()
    (root / "long/other").write_text("replaced directory")
    (root / "bin/also").unlink()
    (root / "big").chmod(0o640)
    os.chown(root / "fifo", 3, 4)
    (root / "null").unlink()
    (root / "null").mkdir(mode=0o2775)
    (root / "null/one").write_text("1")
    os.link(root / "null/one", root / "null/two")
    (root / "lib").unlink()
    (root / "lib").symlink_to("bin")
    os.setxattr(root / "bin/su", "user.note", b"new")
    os.mknod(root / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.rename(root / "disk", root / "moved")


def in_overlay(tmp_path: Path, lower: list[str], work: Callable[[Path], None]) -> Path:
    """Run `work` on the files of an overlay, in a process of its own; the upper directory."""
    upper, scratch = tmp_path / "upper", tmp_path / "work"
    upper.mkdir(mode=0o755)
    scratch.mkdir()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fd = mount.overlay(lower, str(upper), str(scratch))
            os.fchdir(fd)
            work(Path("."))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return upper


@pytest.mark.parametrize("move", [True, False])
def test_commit_and_unpack_again(layout: Layout, tmp_path: Path, move: bool) -> None:
    lower = layout.layer_dir(unpack(layout, everything()).diff_id)
    upper = in_overlay(tmp_path, [lower], change)
    before, by_itself = merged(str(upper), lower), listing(upper)
    ref, _ = layer.commit(layout, str(upper), move)
    assert upper.exists() is not move
    directory = Path(layout.layer_dir(ref.diff_id))
    assert listing(directory) == by_itself
    assert merged(str(directory), lower) == before
    other = new_layout(tmp_path / "other")
    again = unpack(other, Path(layout.blob_path(ref.blob_digest)).read_bytes())
    assert again == ref
    assert listing(Path(other.layer_dir(again.diff_id))) == by_itself
    assert os.listdir(layout.tmp) == []


def test_commit_is_deterministic(layout: Layout, tmp_path: Path) -> None:
    lower = layout.layer_dir(unpack(layout, everything()).diff_id)
    upper = in_overlay(tmp_path, [lower], change)
    first, _ = layer.commit(layout, str(upper), move=False)
    second, _ = layer.commit(new_layout(tmp_path / "other"), str(upper), move=True)
    assert first == second


def test_a_step_that_changed_nothing(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir(mode=0o755)
    ref, _ = layer.commit(layout, str(tmp_path / "upper"), move=True)
    assert ref.diff_id == layer.EMPTY_DIFF_ID
    assert ref.size == 0


def test_a_changed_root_is_kept(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir(mode=0o700)
    ref, _ = layer.commit(layout, str(tmp_path / "upper"), move=False)
    assert stat.S_IMODE(os.stat(layout.layer_dir(ref.diff_id)).st_mode) == 0o700


def test_sockets_are_no_part_of_a_layer(layout: Layout, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.mkdir(mode=0o755)
    os.mknod(upper / "sock", stat.S_IFSOCK | 0o600)
    ref, _ = layer.commit(layout, str(upper), move=True)
    assert os.listdir(layout.layer_dir(ref.diff_id)) == []


def test_gnu_tar_reads_a_layer(layout: Layout, tmp_path: Path) -> None:
    ref = unpack(layout, everything())
    committed, _ = layer.commit(new_layout(tmp_path / "other"), layout.layer_dir(ref.diff_id), move=False)
    blob = tmp_path / "other/image/blobs/sha256" / committed.blob_digest.removeprefix("sha256:")
    (tmp_path / "gnu").mkdir(mode=0o755)
    subprocess.run(
        ["tar", "-xzpf", blob, "-C", tmp_path / "gnu", "--xattrs", "--xattrs-include=*", "--numeric-owner"], check=True
    )
    assert listing(tmp_path / "gnu") == listing(Path(layout.layer_dir(ref.diff_id)))


def test_changes(layout: Layout, tmp_path: Path) -> None:
    lower = layout.layer_dir(unpack(layout, everything()).diff_id)
    upper = in_overlay(tmp_path, [lower], change)
    found, progress = run(JOBS, "image.changes", {
        "root": {"kind": "overlay", "lower": [lower], "upper": str(upper), "work": str(tmp_path / "work")}
    })
    kinds = {"C": changes.Kind.MODIFIED, "A": changes.Kind.ADDED, "D": changes.Kind.DELETED}
    expected = {
        "/big": "C", "/bin": "C", "/bin/also": "D", "/bin/su": "C", "/disk": "D", "/fifo": "C", "/lib": "C",
        "/long": "C", "/long/long": "D", "/long/other": "A", "/moved": "A",
        "/null": "C", "/null/one": "A", "/null/two": "A", "/zero": "A",
    }
    assert [it for message in progress for it in message["changes"]] == [
        [path, int(kinds[kind])] for path, kind in sorted(expected.items())
    ]
    assert found == {"count": len(expected)}


def test_mount_points_are_no_changes(layout: Layout, tmp_path: Path) -> None:
    lower = layout.layer_dir(unpack(layout, archive(member("etc"), member("etc/passwd", b"root"))).diff_id)

    def start(root: Path) -> None:
        (root / "proc").mkdir()
        (root / "etc/hosts").touch()
        (root / "dev").mkdir()
        (root / "dev/pts").mkdir()

    upper = in_overlay(tmp_path, [lower], start)
    _, progress = run(JOBS, "image.changes", {"root": {"kind": "overlay", "lower": [lower], "upper": str(upper)}})
    assert progress == []


# jobs on a container's root


@pytest.fixture
def root(layout: Layout, tmp_path: Path) -> dict[str, object]:
    lower = [layout.layer_dir(unpack(layout, everything()).diff_id)]
    (tmp_path / "upper").mkdir(mode=0o755)
    (tmp_path / "work").mkdir()
    return {"kind": "overlay", "lower": lower, "upper": str(tmp_path / "upper"), "work": str(tmp_path / "work")}


def extract(data: bytes, **args: object) -> None:
    fd = memory_file(data)
    try:
        run(JOBS, "image.extract", args, [fd])
    finally:
        os.close(fd)


def packed(args: dict[str, object]) -> list[tarfile.TarInfo]:
    fd = os.memfd_create("out")
    try:
        run(JOBS, "image.pack", args, [fd])
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as file, tarfile.open(fileobj=file) as tar:
            return tar.getmembers()
    finally:
        os.close(fd)


def test_pack_a_path(root: dict[str, object]) -> None:
    assert [it.name for it in packed({"root": root, "path": "/bin"})] == ["bin", "bin/also", "bin/su"]
    assert [it.name for it in packed({"root": root, "path": "bin/su", "name": "x"})] == ["x"]
    link = packed({"root": root, "path": "/out"})[0]
    assert (link.name, link.issym(), link.linkname) == ("out", True, "../../../../etc")
    with pytest.raises(NotFound, match="Could not find the file /lib/"):
        packed({"root": root, "path": "/lib/"})
    assert [it.name for it in packed({"root": root, "path": "/bin/."})] == [".", "./also", "./su"]
    extract(archive(symlink("link", "/bin")), root=root, path="/")
    assert [it.name for it in packed({"root": root, "path": "/link/"})] == ["link", "link/also", "link/su"]


def test_pack_into_a_slow_pipe(root: dict[str, object]) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    child = os.fork()
    if child == 0:
        os.close(write)
        with open(read, "rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            os._exit(0 if sum(it.size for it in tar) == 700_000 + 15 else 1)
    os.close(read)
    run(JOBS, "image.pack", {"root": root, "path": "/", "name": ""}, [write])
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pack_everything(root: dict[str, object]) -> None:
    names = [it.name for it in packed({"root": root, "path": "/", "name": ""})]
    assert names[:4] == ["big", "bin", "bin/also", "bin/su"]
    assert [it.name for it in packed({"root": root, "path": "/"})][1] == "/big"


def test_extract_into_a_container(root: dict[str, object], tmp_path: Path) -> None:
    extract(archive(member("a/b", b"x", uid=5)), root=root, path="/new/dir", create=True, owner=[8, 9])
    seen = (tmp_path / "upper/new/dir/a/b").stat()
    assert (seen.st_uid, seen.st_gid) == (8, 9)
    assert (tmp_path / "upper/new").stat().st_uid == 8
    with pytest.raises(NotFound, match="Could not find the file /nowhere"):
        extract(archive(member("x", b"")), root=root, path="/nowhere")
    with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
        extract(archive(member("x", b"")), root=root, path="/big")


def test_extract_keeps_kinds_when_told(root: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match='cannot overwrite directory "bin" with non-directory "bin"'):
        extract(archive(member("bin", b"x")), root=root, path="/", same_kind=True)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "big" with directory "big"'):
        extract(archive(member("big")), root=root, path="/", same_kind=True)
    extract(archive(member("bin", b"x"), member("big")), root=root, path="/")
    assert run(JOBS, "image.stat", {"root": root, "path": "/bin"})[0]["size"] == 1


def test_stat(root: dict[str, object]) -> None:
    found, _ = run(JOBS, "image.stat", {"root": root, "path": "/bin/su"})
    assert found == {"name": "su", "size": 2, "mode": stat.S_IFREG | 0o4755, "mtime": 10**18, "link_target": ""}
    link, _ = run(JOBS, "image.stat", {"root": root, "path": "/out"})
    assert link["link_target"] == "/etc"
    assert run(JOBS, "image.stat", {"root": root, "path": "/"})[0]["name"] == "/"
    with pytest.raises(NotFound):
        run(JOBS, "image.stat", {"root": root, "path": "/big/x"})


def test_a_running_container_is_read_beside_its_own_mount(root: dict[str, object], tmp_path: Path) -> None:
    fd = mount.overlay(root["lower"], root["upper"], root["work"])  # type: ignore[arg-type]
    try:
        os.mkdir("new", dir_fd=fd)
        names = [it.name for it in packed({"root": root, "path": "/", "name": ""})]
    finally:
        os.close(fd)
    assert "new" in names and "bin/su" in names


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "sampan-test", tmp_path / "small"], check=True)
    try:
        layout = new_layout(tmp_path / "small/data")
        for content in (os.urandom(4 << 20), bytes(4 << 20)):  # the blob is too large; the files are
            fd = memory_file(archive(member("etc"), member("etc/big", content)))
            with pytest.raises(OutOfSpace, match="no space left on device"):
                run(JOBS, "image.import_tar", {"data_root": layout.root}, [fd])
            os.close(fd)
        assert os.listdir(layout.tmp) == os.listdir(layout.blobs) == []
        assert os.listdir(layout.layers) == ["empty"]
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def test_a_root_given_by_descriptor(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    fd = os.open(tmp_path / "r", os.O_PATH | os.O_DIRECTORY)
    data = memory_file(archive(member("x", b"1")))
    try:
        run(JOBS, "image.extract", {"root": {"kind": "fd"}, "path": "/"}, [data, fd])
    finally:
        os.close(fd)
        os.close(data)
    assert (tmp_path / "r/x").read_text() == "1"


def test_tree_size_and_removal(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/one").write_bytes(b"x" * 1000)
    os.link(tree / "a/b/one", tree / "two")
    (tree / "link").symlink_to(tmp_path)
    assert run(JOBS, "image.tree_size", {"path": str(tree)})[0] == {"size": 1000}
    run(JOBS, "image.remove_tree", {"path": str(tree)})
    assert not tree.exists()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_job_reads_a_pipe_and_tells_its_progress(layout: Layout, blocking: bool) -> None:
    read, write = os.pipe()
    os.set_blocking(read, blocking)
    child = os.fork()
    if child == 0:
        os.close(read)
        with open(write, "wb") as out:
            out.write(everything())
        os._exit(0)
    os.close(write)
    result, progress = run(JOBS, "image.import_tar", {"data_root": layout.root}, [read])
    os.close(read)
    os.waitpid(child, 0)
    assert layout.layer(result["diff_id"]) is not None
    assert progress[0]["status"] == "Importing"
