"""The mounts of a spec on a real kernel: kinds, options, attributes, id mappings, copy-up."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.mount_stage import furnished, let_through, mount, mounts

from sampan.errors import InvalidArgument
from sampan.linux import clone, overlay
from sampan.oci import runtime as oci
from sampan.runtime import mount_sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def seen(root: Path, place: str) -> dict[str, object]:
    """What mountinfo says of a place in the root, in a form that fits into JSON."""
    found = mounts(str(root))[place]
    return {"kind": found.kind, "options": sorted(found.options), "super": sorted(found.super_options),
            "source": found.source, "tags": sorted(found.tags)}


def test_kernel_file_systems(root: Path) -> None:
    quiet = ("nosuid", "nodev", "noexec")
    entries = [
        mount("/proc", *quiet, kind="proc", source="proc"),
        mount("/sys", *quiet, "ro", kind="sysfs", source="sysfs"),
        mount("/dev", "nosuid", "strictatime", "mode=755", "size=65536k", kind="tmpfs", source="tmpfs"),
        mount("/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", kind="devpts"),
        mount("/dev/mqueue", *quiet, kind="mqueue", source="mqueue"),
        mount("/dev/shm", *quiet, "mode=1777", "size=64k", "rprivate", kind="tmpfs", source="shm"),
        mount("/ram", "ro", kind="ramfs", source="ramfs"),
    ]
    places = ["/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/ram"]
    found = furnished(root, entries, lambda: [seen(root, place) for place in places], flags=clone.NEWIPC)
    kinds = [each["kind"] for each in found]
    assert kinds == ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "tmpfs", "ramfs"]
    proc, sys, dev, pts, _, shm, ram = found
    assert proc["options"] == ["nodev", "noexec", "nosuid", "relatime", "rw"]
    assert "ro" in sys["options"]
    assert dev["options"] == ["nosuid", "rw"] and {"size=65536k", "mode=755"} <= set(dev["super"])
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(pts["super"])
    assert shm["source"] == "shm" and shm["tags"] == []
    assert "ro" in ram["options"] and "ro" in ram["super"]
    assert not list(root.iterdir()) or all(not any(each.iterdir()) for each in root.iterdir())  # the host's are empty


def test_an_unknown_file_system_or_option_is_named(root: Path) -> None:
    with pytest.raises(OSError, match="this kernel has no such file system") as failed:
        furnished(root, [mount("/a", kind="nosuchfs")])
    assert failed.value.filename == "nosuchfs"
    with pytest.raises(OSError, match="sizzle"):
        furnished(root, [mount("/a", "sizzle=3", kind="tmpfs")])


def test_a_tmpfs_takes_the_mode_of_what_it_covers(root: Path) -> None:
    (root / "run").mkdir()
    (root / "run").chmod(0o2751)
    entries = [mount("/run", kind="tmpfs"), mount("/new", kind="tmpfs"), mount("/asked", "mode=700", kind="tmpfs")]
    (root / "asked").mkdir()
    modes = furnished(root, entries, lambda: [
        stat.S_IMODE(os.stat(root / name).st_mode) for name in ("run", "new", "asked")])
    assert modes == [0o2751, 0o1777, 0o700]


def test_tmpcopyup(root: Path) -> None:
    etc = root / "etc"
    (etc / "deep/er").mkdir(parents=True)
    (etc / "deep/er/file").write_bytes(b"x" * 3_000_000)
    (etc / "setuid").write_text("s")
    os.chown(etc / "setuid", 7, 8)
    (etc / "setuid").chmod(0o4755)
    os.utime(etc / "setuid", ns=(10**18, 10**18 + 5))
    os.setxattr(etc / "setuid", "trusted.sampan", b"kept")
    (etc / "link").symlink_to("/proc/self/environ")
    os.mkfifo(etc / "fifo", 0o640)
    os.mknod(etc / "zero", 0o620 | stat.S_IFCHR, os.makedev(1, 5))
    os.chown(etc, 3, 4)

    def look() -> list[object]:
        file = os.stat(etc / "setuid")
        (etc / "setuid").write_text("changed")
        return [
            sorted(os.listdir(etc)), (etc / "deep/er/file").stat().st_size, oct(file.st_mode),
            [file.st_uid, file.st_gid],
            file.st_mtime_ns, os.getxattr(etc / "setuid", "trusted.sampan").decode(), os.readlink(etc / "link"),
            oct(os.stat(etc / "fifo").st_mode), os.stat(etc / "zero").st_rdev,
            [os.stat(etc).st_uid, os.stat(etc).st_gid],
        ]

    found = furnished(root, [mount("/etc", "tmpcopyup", kind="tmpfs"), mount("/none", "tmpcopyup", kind="tmpfs")], look)
    assert found == [
        ["deep", "fifo", "link", "setuid", "zero"], 3_000_000, "0o104755", [7, 8], 10**18 + 5, "kept",
        "/proc/self/environ", "0o10640", os.makedev(1, 5), [3, 4],
    ]
    assert (etc / "setuid").read_text() == "s"
    with pytest.raises(OSError, match="No space") as failed:
        furnished(root, [mount("/etc", "tmpcopyup", "size=64k", kind="tmpfs")])
    assert "file" in str(failed.value.filename) or failed.value.errno == 28


def test_binds_of_files_and_directories_with_attributes(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("content")
    entries = [
        mount("/data", "bind", "ro", "nosuid", "noexec", "noatime", source=source),
        mount("/etc/deep/name", "bind", source=source / "file"),
        mount("/data/below", "rbind", "rw", source=source / "below"),
        mount("relative/to/root", "bind", source=source),
    ]

    def look() -> list[object]:
        (root / "data/below/made").write_text("")
        return [
            seen(root, "/data")["options"], (root / "etc/deep/name").read_text(), seen(root, "/data/below")["options"],
            sorted(os.listdir(root / "relative/to/root")),
        ]

    found = furnished(root, entries, look)
    assert found[0] == ["noatime", "noexec", "nosuid", "ro"]
    assert found[1:] == ["content", ["relatime", "rw"], ["below", "file"]]
    assert (source / "below/made").exists()


def test_recursive_attributes_reach_what_is_mounted_below(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    entries = [
        mount("/source", kind="tmpfs"), mount("/source/below", kind="tmpfs"),
        mount("/deep", "rbind", "rro", "rnosuid", source=root / "source"),
        mount("/top", "rbind", "ro", source=root / "source"),
        mount("/alone", "bind", source=root / "source"),
    ]
    found = furnished(root, entries, lambda: [
        mounts(str(root)).keys() >= {"/alone/below"},
        *(seen(root, place)["options"] for place in ("/deep", "/deep/below", "/top", "/top/below")),
    ])
    assert found == [False, ["nosuid", "relatime", "ro"], ["nosuid", "relatime", "ro"], ["relatime", "ro"],
                     ["relatime", "rw"]]


def test_a_read_only_tmpfs_takes_mounts_and_devices_first(root: Path, tmp_path: Path) -> None:
    entries = [
        mount("/dev", "ro", "nosuid", kind="tmpfs"), mount("/dev/pts", kind="devpts"),
        mount("/vol", "ro", kind="tmpfs"), mount("/vol/inner", "bind", source=tmp_path),
        mount("/proc", "ro", kind="proc"),
    ]

    def look() -> list[object]:
        options = [seen(root, place)["options"] for place in ("/dev", "/vol", "/vol/inner", "/proc")]
        return [["ro" in each for each in options], sorted(os.listdir(root / "dev"))]

    readonly, names = furnished(root, entries, look, make_dev=True)
    assert readonly == [True, True, False, True]
    assert {"null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "ptmx", "pts"} <= set(names)


def test_remount(root: Path) -> None:
    entries = [
        mount("/a", "size=1m", kind="tmpfs"), mount("/a", "remount", "bind", "ro", "nosuid"),
        mount("/b", "size=1m", kind="tmpfs"), mount("/b", "remount", "size=2m", kind="tmpfs"),
    ]
    a, b = furnished(root, entries, lambda: [seen(root, "/a"), seen(root, "/b")])
    assert a["options"] == ["nosuid", "relatime", "ro"] and "size=1024k" in a["super"]
    assert "size=2048k" in b["super"]
    (root / "plain").mkdir()
    with pytest.raises(OSError, match="is not a mount point"):
        furnished(root, [mount("/plain", "remount", "bind", "ro")])


@pytest.mark.parametrize("length", [10, 300])
def test_an_overlay_with_options_of_any_length(root: Path, tmp_path: Path, length: int) -> None:
    base = tmp_path / "layers" / ("x" * 150) / ("y" * 150) if length > 255 else tmp_path / "layers"
    names = [f"layer:{number}" for number in range(12)]
    for name in [*names, "upper", "work"]:
        (base / name).mkdir(parents=True)
    for name in names:
        (base / name / name).write_text(name)
    lower = ":".join(str(base / name).replace(":", "\\:") for name in names)
    entry = mount("/merged", f"lowerdir={lower}", f"upperdir={base / 'upper'}", f"workdir={base / 'work'}", "index=off",
                  kind="overlay", source="overlay")

    def look() -> list[str]:
        (root / "merged/made").write_text("")
        return sorted(os.listdir(root / "merged"))

    assert furnished(root, [entry], look) == sorted([*names, "made"])
    assert (base / "upper/made").exists()


def test_an_overlay_says_what_is_wrong(root: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing|No such file"):
        furnished(root, [mount("/m", f"lowerdir={tmp_path}:{tmp_path}/missing", kind="overlay")])
    with pytest.raises(OSError, match=r"No such file|not a directory|Not a directory"):
        furnished(root, [mount("/m", f"lowerdir={tmp_path}/{'z' * 200}/{'z' * 200}", kind="overlay")])
    assert overlay.layers(":a::b") == [("a", True), ("b", True)]


def mappings(host: int) -> list[oci.IDMapping]:
    return [oci.IDMapping(container_id=0, host_id=host, size=65536)]


def test_an_idmapped_bind(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("")
    os.chown(source / "file", 7, 8)
    ids = {"uid_mappings": mappings(10000), "gid_mappings": mappings(20000)}
    entry = mount("/mapped", "rbind", "ridmap", source=source, **ids)
    spec = oci.Spec(linux=oci.Linux(), mounts=[entry])
    prepared = mount_sources.prepare(spec)
    try:
        found = furnished(root, [entry], lambda: [
            os.stat(root / "mapped/file").st_uid, os.stat(root / "mapped/file").st_gid], prepared=prepared)
    finally:
        os.close(prepared[0])
    assert found == [10007, 20008]


def test_an_idmap_by_the_containers_user_namespace(root: Path, tmp_path: Path) -> None:
    """Files of root on the host belong to the container's root in the mount, and what it makes there to the host's."""
    source = tmp_path / "source"
    source.mkdir()
    let_through(tmp_path)
    entry = mount("/mapped", "bind", "idmap", source=source)
    ids = mappings(100000)
    linux = oci.Linux(namespaces=[oci.Namespace(type="user")], uid_mappings=ids, gid_mappings=ids)
    os.chown(root, 100000, 100000)
    prepared = mount_sources.prepare(oci.Spec(linux=linux, mounts=[entry]))
    try:
        def look() -> int:
            (root / "mapped/made").write_text("")
            return os.stat(root / "mapped").st_uid

        assert furnished(root, [entry], look, prepared=prepared, ids=[(0, 100000, 65536)]) == 0
    finally:
        os.close(prepared[0])
    assert (source / "made").stat().st_uid == 0


def test_an_idmap_that_cannot_be(tmp_path: Path) -> None:
    for entry, said in (
        (mount("/a", "bind", "idmap", source=tmp_path), "needs a container with a user namespace"),
        (mount("/a", "bind", source=tmp_path, uid_mappings=mappings(1)), "needs both"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            mount_sources.prepare(oci.Spec(linux=oci.Linux(), mounts=[entry]))
    with pytest.raises(FileNotFoundError):
        mount_sources.prepare(oci.Spec(linux=oci.Linux(namespaces=[oci.Namespace(type="user")]), mounts=[
            mount("/a", "bind", source=tmp_path), mount("/b", "bind", source=tmp_path / "missing")]))


def test_devices_of_all_kinds(root: Path) -> None:
    devices = [
        oci.Device(path="/dev/deep/down/zero", type="u", major=1, minor=5, file_mode=0o620, uid=3, gid=4),
        oci.Device(path="/opt/loop", type="b", major=7, minor=0, file_mode=0o660),
        oci.Device(path="/dev/pipe", type="p", file_mode=0o644),
        oci.Device(path="/dev/null", type="c", major=1, minor=5),  # a default device is what it is
        oci.Device(path="/dev/tty", type="c", major=5, minor=0, file_mode=0o620, gid=5),
    ]

    def look() -> list[list[int]]:
        places = [os.stat(root / each.path[1:]) for each in devices]
        return [[status.st_mode, status.st_rdev, status.st_uid, status.st_gid] for status in places]

    found = furnished(root, [mount("/dev", kind="tmpfs")], look, devices=devices, make_dev=True)
    assert found == [
        [stat.S_IFCHR | 0o620, os.makedev(1, 5), 3, 4], [stat.S_IFBLK | 0o660, os.makedev(7, 0), 0, 0],
        [stat.S_IFIFO | 0o644, 0, 0, 0], [stat.S_IFCHR | 0o666, os.makedev(1, 3), 0, 0],
        [stat.S_IFCHR | 0o620, os.makedev(5, 0), 0, 5],
    ]


def test_a_bound_dev_is_left_alone_and_something_else_at_a_devices_path_is_an_error(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "dev"
    own.mkdir()
    furnished(root, [mount("/dev", "bind", source=own)], make_dev=True)
    assert list(own.iterdir()) == []
    (root / "opt").mkdir()
    (root / "opt/thing").write_text("")
    thing = oci.Device(path="/opt/thing", type="c", major=1, minor=5)
    with pytest.raises(FileExistsError, match="something else is there already"):
        furnished(root, [mount("/dev", kind="tmpfs")], make_dev=True, devices=[thing])


def test_nothing_of_all_this_is_seen_outside(root: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    furnished(root, [mount("/proc", kind="proc"), mount("/tmp", "rshared", kind="tmpfs")], enter=True)
    assert Path("/proc/self/mountinfo").read_text() == before
