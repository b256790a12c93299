"""Attacks by archives: on import, load, ADD and cp. The names carry the CVE of the escape that each repeats.

Every attack on a path is made against both ways in: as an image's layer, and as an archive for a directory of a
container (docker cp, ADD).
"""

from __future__ import annotations

import ctypes
import gzip
import lzma
import os
import resource
import stat
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layer_fixture import archive, hardlink, member, memory_file, new_layout, run, symlink
from sampan.errors import InvalidArgument, SampanError
from sampan.image import jobs
from sampan.image.tar import header, write
from sampan.image.tar.entry import BLOCK, FILE, Entry
from sampan.linux import paths

Members = list[tuple[tarfile.TarInfo, bytes]]
Attack = Callable[[Members], str]
RENAME_EXCHANGE = 2


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must not change, above and beside the root that is written to."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


@pytest.fixture(params=["layer", "extract"])
def attack(request: pytest.FixtureRequest, outside: Path) -> Iterator[Attack]:
    """Unpack the members; "" or the refusal. Nothing outside may have changed, whatever the answer is."""
    layout = new_layout(outside / "data")
    root = outside / "root"

    def perform(members: Members) -> str:
        remove(root)
        root.mkdir()
        fd = memory_file(archive(*members))
        try:
            if request.param == "layer":
                run(jobs.JOBS, "image.import_tar", {"data_root": layout.root}, [fd])
            else:
                directory = {"kind": "directory", "path": str(root)}
                run(jobs.JOBS, "image.extract", {"root": directory, "path": "/"}, [fd])
        except InvalidArgument as error:
            return str(error)
        finally:
            os.close(fd)
        return ""

    root.mkdir()
    before = _state(outside)
    yield perform
    assert _state(outside) == before
    assert os.listdir(layout.tmp) == []
    remove(root)
    remove(outside / "data")


def remove(tree: Path) -> None:
    """Trees too deep for others."""
    parent = os.open(tree.parent, os.O_PATH)
    paths.remove_tree(parent, tree.name)
    os.close(parent)


def _state(top: Path) -> list[object]:
    secret = top / "secret"
    status = secret.stat()
    xattrs = [os.listxattr(path) for path in (top, secret, top / "data", top / "data/tmp", top / "data/layers")]
    return [
        secret.read_text(), status.st_mode, status.st_uid, status.st_nlink, sorted(os.listdir(top)),
        top.stat().st_mode, xattrs,
    ]


UP = "../" * 12


@pytest.mark.parametrize("target", ["/", UP, ".."])
@pytest.mark.parametrize("name", ["x/secret", "x/evil", "x/d/e/evil", "./x//./evil"])
def test_write_through_a_symlink_cve_2014_6407_cve_2014_9356(
    attack: Attack, outside: Path, target: str, name: str
) -> None:
    attack([symlink("x", target), member(name, b"evil")])
    attack([symlink("x", f"{target}/{outside}"), member(name, b"evil")])


def test_write_through_a_chain_of_symlinks_cve_2026_17106(attack: Attack) -> None:
    attack([
        member("a"), symlink("a/up", ".."), symlink("b", "a/up/a/up/../.."), symlink("c", "b/.."),
        member("c/secret", b"e"), member("a/up/up/../../../secret", b"e"),
    ])


def test_write_where_a_directory_was_cve_2025_47290(attack: Attack, outside: Path) -> None:
    """The directory's fd is known from before; the name means something else now."""
    attack([
        member("a"), member("a/f", b"x"), symlink("a", str(outside)), member("a/secret", b"evil"),
        member("a/evil", b"x"),
    ])


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "../../../../../../tmp/evil", "..", "a/../.."])
def test_a_name_that_leads_out(attack: Attack, name: str) -> None:
    assert "leads out of its root" in attack([member(name, b"evil")])
    assert "leads out of its root" in attack([symlink(name, "x")])
    assert "leads out of its root" in attack([hardlink("x", name)])


def test_an_absolute_name_is_inside(attack: Attack, outside: Path) -> None:
    assert attack([member(f"{outside}/secret", b"evil")]) == ""


@pytest.mark.parametrize("link", ["/{0}/secret", "l/secret", "l/../secret"])
def test_hard_link_to_the_host_cve_2014_6407(attack: Attack, outside: Path, link: str) -> None:
    text = attack([symlink("l", str(outside)), hardlink("h", link.format(outside)), member("h", b"evil")])
    assert "not in the archive" in text or "cannot unpack" in text


def test_hard_link_to_a_symlink_is_not_written_through(attack: Attack, outside: Path) -> None:
    assert attack([symlink("l", f"{outside}/secret"), hardlink("h", "l"), member("h", b"evil")]) == ""
    assert attack([symlink("l", f"{outside}/secret"), member("l", b"evil")]) == ""


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("name", [".", "./", "/", "a/.."])
def test_the_root_as_something_else_cve_2021_29136(attack: Attack, outside: Path, name: str, kind: bytes) -> None:
    assert attack([member(name, type=kind, linkname=str(outside))])


def test_chmod_and_chown_through_a_symlink_cve_2021_32760_cve_2021_41089(attack: Attack, outside: Path) -> None:
    secret = f"{outside}/secret"
    attack([symlink("l", secret), hardlink("h", "l"), member("l", b"", mode=0o4777, uid=99)])
    attack([symlink("d", str(outside)), member("d", mode=0o777, uid=99), member("d", mode=0o777)])
    attack([member("l", type=tarfile.SYMTYPE, linkname=secret, mode=0o777, uid=99, mtime=1)])


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh...", ".wh..wh..opq/x"])
def test_a_whiteout_of_what_is_above(attack: Attack, name: str) -> None:
    """`.wh...` hides `..`: the directory that holds the layer."""
    attack([member("a"), member(name, b"")])


def test_attributes_that_steer_overlayfs(outside: Path) -> None:
    layout = new_layout(outside / "data")
    xattrs = {
        "trusted.overlay.redirect": b"/../../..", "trusted.overlay.metacopy": b"x", "user.overlay.opaque": b"y",
        "security.selinux": b"x", "trusted.other": b"x", "user.fine": b"1",
    }
    fd = memory_file(archive(member("d", xattrs=xattrs), member("f", b"", xattrs=xattrs)))
    result, _ = run(jobs.JOBS, "image.import_tar", {"data_root": layout.root}, [fd])
    os.close(fd)
    directory = layout.layer_dir(result["diff_id"])
    assert os.listxattr(f"{directory}/d") == os.listxattr(f"{directory}/f") == ["user.fine"]
    assert len(result["warnings"]) == 10


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**32 + 1, 2**63])
def test_an_owner_that_wraps_to_root_cve_2024_40635(attack: Attack, field: str, number: int) -> None:
    assert "owner out of range" in attack([member("f", b"", **{field: number})])


def test_a_device_number_out_of_range(attack: Attack) -> None:
    assert attack([member("n", type=tarfile.CHRTYPE, devmajor=2**20, devminor=1)])


def test_names_beyond_the_kernels_bounds(attack: Attack) -> None:
    assert "File name too long" in attack([member("n" * 300, b"")])
    assert "File name too long" in attack([member("n/" * 3000 + "x", b"")])
    assert attack([symlink("l", "t" * 5000)])


def test_a_loop_of_symlinks(attack: Attack) -> None:
    assert "cannot unpack" in attack([symlink("a", "b"), symlink("b", "a"), member("a/x", b"")])


def test_a_very_deep_tree(attack: Attack) -> None:
    attack([member("d/" * depth + "f", b"") for depth in range(1, 1500, 50)])


def test_a_file_in_the_place_of_a_directory(attack: Attack) -> None:
    assert "Not a directory" in attack([member("a", b""), member("a/b", b"")])
    assert attack([member("a/b", b""), member("a", b""), member("a"), member("a/c", b"")]) == ""


def test_realpath_overflow_cve_2025_4517(attack: Attack, outside: Path) -> None:
    """A link whose resolved length passes PATH_MAX: tarfile's check gave up there and the kernel did not."""
    component, steps = "d" * 247, "abcdefghijklmnop"
    members: Members = []
    path = ""
    for step in steps:
        members += [member(f"{path}{component}"), symlink(f"{path}{step}", component)]
        path += component + "/"
    link = "/".join(steps) + "/" + "l" * 254
    members += [
        symlink(link, "../" * len(steps)), symlink("escape", f"{link}/../../../../../../..{outside}"),
        hardlink("flag", "escape/secret"), member("flag", b"evil"), member("escape/evil", b"evil"),
    ]
    attack(members)


# numbers and lengths


def block(**fields: bytes) -> bytes:
    """A header block with some fields replaced and the checksum made right again."""
    places = {"size": (124, 12), "type": (156, 1), "uid": (108, 8), "mtime": (136, 12), "name": (0, 100)}
    data = bytearray(write.header(Entry(b"name", FILE)))
    for key, value in fields.items():
        start, length = places[key]
        data[start : start + length] = value.ljust(length, b"\0")
    data[148:156] = b"%06o\0 " % header.checksum(bytes(data))
    return bytes(data)


def base256(value: int, length: int = 12) -> bytes:
    if value < 0:
        return value.to_bytes(length, "big", signed=True)
    return bytes([0x80]) + value.to_bytes(length - 1, "big")


def pax(text: bytes) -> bytes:
    return block(type=b"x", size=b"%011o" % len(text)) + text + write.padding(len(text))


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size, key, value)


def import_tar(data: bytes, path: Path, job: str = "image.import_tar") -> dict[str, Any]:
    layout = new_layout(path)
    fd = memory_file(data)
    try:
        return run({job: within_memory(jobs.JOBS[job])}, job, {"data_root": layout.root}, [fd])[0]
    finally:
        os.close(fd)
        assert os.listdir(layout.tmp) == []


def within_memory(job: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The job with room for 96 MiB more than it has at its start."""

    def bounded(*args: Any) -> dict[str, Any]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * os.sysconf("SC_PAGESIZE") + (96 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        return job(*args)

    return bounded


@pytest.mark.parametrize(
    "data",
    [
        block(size=base256(-1)), block(size=base256(-512)), block(size=base256(2**80)), block(size=b"-0000001"),
        block(uid=base256(-1, 8)), block(type=b"L", size=base256(2**40)), block(type=b"x", size=base256(2**40)),
        block(type=b"x", size=base256(-1)), block(type=b"K", size=b"7" * 11), block(type=b"S"), block(type=b"Z"),
        pax(record(b"size", b"-1")) + block(), pax(record(b"size", b"9" * 30)) + block(),
        pax(record(b"path", b"a\0b")) + block(), pax(record(b"linkpath", b"a\0b")) + block(),
        pax(record(b"mtime", b"1" * 50)) + block(), pax(record(b"uid", b"-1")) + block(),
        pax(b"0 size=1\n") + block(), pax(b"-5 size=1\n") + block(), pax(record(b"GNU.sparse.map", b"0,1")) + block(),
        b"".join([pax(record(b"comment", b"x" * 900_000))] * 20) + block(), pax(record(b"path", b"x")), block(name=b""),
    ],
)
def test_numbers_that_cannot_be_meant_cve_2019_20907_cve_2024_6232(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"tar|archive"):
        import_tar(data + write.END, tmp_path)
    assert sorted(os.listdir(tmp_path / "layers")) == ["empty"]


def test_headers_in_quadratic_number_are_read_in_time_cve_2024_6232(tmp_path: Path) -> None:
    text = b"".join(record(b"k%d" % number, b"v") for number in range(60_000))
    import_tar(pax(text[: header.MAX_SPECIAL // 2].rpartition(b"\n")[0] + b"\n") + block() + write.END, tmp_path)


def test_padding_is_not_kept_in_memory_cve_2017_14992(tmp_path: Path) -> None:
    tail = zlib.compressobj(9, wbits=31)
    pieces = [tail.compress(block() + write.END), *(tail.compress(bytes(1 << 20)) for _ in range(256)), tail.flush()]
    result = import_tar(b"".join(pieces), tmp_path)
    assert result["size"] == 0


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_bomb_is_unpacked_in_little_memory(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    size = 128 << 20
    data = compress(write.header(Entry(b"zeros", size=size)) + bytes(size) + write.END)
    assert len(data) < size // 100
    assert import_tar(data, tmp_path)["size"] == size


def test_a_decompressor_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    window = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + bytes(64)  # zstd: a window of 2 GiB
    with pytest.raises(InvalidArgument, match="not valid zstd data"):
        import_tar(window, tmp_path)
    xz = bytearray(lzma.compress(b"x" * 1000, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]))
    xz[16] = 40  # a dictionary of 4 GiB, in the block header's properties
    xz[12 + 8 : 12 + 12] = struct.pack("<I", zlib.crc32(bytes(xz[12:20])))
    with pytest.raises(InvalidArgument, match="not valid xz data"):
        import_tar(bytes(xz), tmp_path)


def test_documents_of_an_archive_are_bounded_cve_2023_25153_cve_2020_1702(tmp_path: Path) -> None:
    for name in ("manifest.json", "index.json"):
        with pytest.raises(InvalidArgument, match="larger than"):
            import_tar(archive(member(name, b" " * (120 << 20))), tmp_path, "image.load")


# nothing of the container is run or loaded


def test_no_program_and_no_library_is_loaded_cve_2014_9357_cve_2026_41567_cve_2019_14271(tmp_path: Path) -> None:
    """An audit hook in the worker sees every exec, import and dlopen."""
    tools = tmp_path / "root/bin"
    tools.mkdir(parents=True)
    for tool in ("xz", "unxz", "unpigz", "gzip", "bzip2", "zstd", "tar"):
        (tools / tool).write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
        (tools / tool).chmod(0o755)
    seen: list[str] = []

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in ("import", "ctypes.dlopen", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork"):
            seen.append(f"{event} {args[:1]}")

    def watched(channel: Any, args: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        os.environ["PATH"] = str(tools)
        sys.addaudithook(hook)
        result = jobs.JOBS[args["job"]](channel, args, fds)
        return {"result": result, "seen": seen}

    root = {"kind": "directory", "path": str(tmp_path / "root")}
    sent = archive(member("etc"), member("etc/passwd", b"root:x:0:0"))
    for data in (lzma.compress(sent), gzip.compress(sent), sent):
        fd = memory_file(data)
        args = {"job": "image.extract", "root": root, "path": "/"}
        result, _ = run({"watched": watched}, "watched", args, [fd])
        os.close(fd)
        assert result["seen"] == []
    out = os.memfd_create("out")
    args = {"job": "image.pack", "root": root, "path": "/", "name": ""}
    result, _ = run({"watched": watched}, "watched", args, [out])
    os.close(out)
    assert result["seen"] == []
    assert not (tmp_path / "was-run").exists()


# a container that moves its files while they are read and written


@pytest.fixture
def restless(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A root where `dir` is a directory and a symlink to the host in turn, as fast as a process can."""
    root, host = tmp_path / "root", tmp_path / "host"
    (root / "real").mkdir(parents=True)
    (root / "real/secret").write_text("harmless")
    host.mkdir()
    (host / "secret").write_text("secret of the host")
    (root / "dir").symlink_to(host)
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        try:
            names = os.fsencode(root / "dir"), os.fsencode(root / "real")
            while libc.renameat2(-100, names[0], -100, names[1], RENAME_EXCHANGE) == 0:
                pass
        finally:
            os._exit(1)
    yield {"kind": "directory", "path": str(root)}
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert os.listdir(host) == ["secret"]
    assert (host / "secret").read_text() == "secret of the host"
    assert stat.S_IMODE(host.stat().st_mode) == 0o755


def test_cp_into_a_moving_target_cve_2018_15664(restless: dict[str, Any]) -> None:
    data = memory_file(archive(*(member(f"dir/f{number}", b"x", mode=0o777) for number in range(150)), member("dir")))
    done = 0
    for path in ("/", "/dir", "/dir/.", "/real/new") * 3:
        os.lseek(data, 0, os.SEEK_SET)
        try:
            run(jobs.JOBS, "image.extract", {"root": restless, "path": path, "create": True, "owner": [5, 5]}, [data])
            done += 1
        except (SampanError, OSError):
            pass  # it may fail, but it may not get out
    os.close(data)
    assert done


def test_cp_from_a_moving_source_cve_2018_15664_cve_2019_10152_cve_2023_0778(restless: dict[str, Any]) -> None:
    for path in ("/", "/dir/secret", "/dir/", "/dir/../dir/secret") * 5:
        out = os.memfd_create("out")
        try:
            run(jobs.JOBS, "image.pack", {"root": restless, "path": path}, [out])
        except (SampanError, OSError):
            pass
        finally:
            assert b"secret of the host" not in os.pread(out, 1 << 20, 0)
            os.close(out)


def test_a_magic_link_leads_nowhere(tmp_path: Path) -> None:
    """/proc/self/root of a container's procfs would be the host's root for whoever opens it from outside."""
    root = {"kind": "directory", "path": "/"}
    out = os.memfd_create("out")
    with pytest.raises(SampanError, match="symbolic link"):
        run(jobs.JOBS, "image.pack", {"root": root, "path": "/proc/self/root/etc/hostname"}, [out])
    os.close(out)


def test_a_fifo_or_device_does_not_hang_cp_cve_2024_9676(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / "fifo")
    os.mknod(root / "tty", stat.S_IFCHR | 0o600, os.makedev(5, 0))
    out = os.memfd_create("out")
    run(jobs.JOBS, "image.pack", {"root": {"kind": "directory", "path": str(root)}, "path": "/", "name": ""}, [out])
    assert len(os.pread(out, 1 << 20, 0)) == 4 * BLOCK
    os.close(out)
