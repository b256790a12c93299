"""Attacks on the mounts of a container, by its image, its volumes, and processes that change both meanwhile."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.mount_stage import apply, furnished, in_namespaces, let_through, mount, mounts

from sampan.errors import InvalidArgument
from sampan.linux import clone
from sampan.linux import mount as kernel
from sampan.linux.cgroup import Host
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries
from sampan.runtime.devices import MakeDevice, PopulateDev
from sampan.runtime.masks import MaskPath
from sampan.runtime.operation import Stage
from sampan.runtime.root import BindRoot, DetachPropagation
from sampan.runtime.terminal import OpenConsole

PROC = mount("/proc", kind="proc", source="proc")
RENAME_EXCHANGE = 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host, which has to stay empty."""
    made = tmp_path / "victim"
    made.mkdir()
    yield made
    assert list(made.iterdir()) == []


@contextmanager
def exchanging(directory: Path, one: str, other: str) -> Iterator[None]:
    """A process of another container, which swaps two entries of a shared volume without pause."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    pid = os.fork()
    if pid == 0:
        fd = os.open(directory, os.O_PATH)
        while True:
            renameat2(fd, one.encode(), fd, other.encode(), RENAME_EXCHANGE)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("spelled", ["/proc", "/proc/", "//proc", "/proc/.", "/./proc", "/x/../proc", "proc"])
@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_cve_2019_19921_2023_27561_2023_28642_a_link_at_proc_or_sys(
    root: Path, victim: Path, spelled: str, kind: str
) -> None:
    name = {"proc": "proc", "sysfs": "sys"}[kind]
    destination = spelled.replace("proc", name)
    for target in (str(victim), "tmp", "/", "/nowhere"):
        (root / "tmp").mkdir(exist_ok=True)
        (root / name).symlink_to(target)
        with pytest.raises(NotADirectoryError, match="must be mounted on ordinary directory"):
            furnished(root, [mount(destination, kind=kind)])
        (root / name).unlink()
    (root / name).write_text("")
    with pytest.raises(NotADirectoryError, match="must be mounted on ordinary directory"):
        furnished(root, [mount(destination, kind=kind)])
    assert sorted(each.name for each in root.iterdir()) == sorted([name, "tmp"])


def test_cve_2019_16884_no_volume_takes_the_place_of_proc(root: Path, tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    (fake / "self/attr").mkdir(parents=True)
    (fake / "self/attr/exec").write_text("")
    (root / "proc").mkdir()
    for entry in (
        mount("/proc", "bind", source=fake), mount("/proc/", "rbind", source=fake), mount("/proc", kind="tmpfs"),
        mount("//proc/.", "bind", source=fake), mount("/proc", kind="sysfs"),
        mount("/proc", "bind", source="/proc/self"),  # a procfs, but not its top
    ):
        with pytest.raises(PermissionError, match="only a procfs may be mounted there"):
            furnished(root, [entry])
        with pytest.raises(PermissionError, match="nothing may be mounted"):
            furnished(root, [PROC, entry])


@pytest.mark.parametrize("place", [
    "/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1/attr/exec", "/proc/fs", "/innocent",
    "/innocent/kernel",
])
def test_cve_2019_16884_2025_52881_no_volume_inside_proc_whatever_way_leads_there(
    root: Path, tmp_path: Path, place: str
) -> None:
    (root / "innocent").symlink_to("/proc/sys")
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "file").write_text("")
    kinds: list[oci.Mount] = [mount(place, "bind", source=source), mount(place, kind="tmpfs")]
    if place.endswith("exec"):
        kinds = [mount(place, "bind", source=tmp_path / "file")]
    for entry in kinds:
        with pytest.raises(PermissionError, match="nothing may be mounted"):
            furnished(root, [PROC, entry])


def test_cve_2019_16884_what_is_known_to_be_harmless_goes(root: Path, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    entries = [PROC, mount("/proc/uptime", "bind", "ro", source=tmp_path / "uptime")]
    assert furnished(root, entries, lambda: (root / "proc/uptime").read_text()) == "1.00 1.00\n"
    hosts = [mount("/proc", "rbind", source="/proc")]
    assert furnished(root, hosts, lambda: mounts(str(root))["/proc"].kind) == "proc"


@pytest.mark.parametrize("target", ["../../../../../../../..{}", "{}", "/proc/self/root{}", "link"])
def test_cve_2015_1335_a_target_that_is_a_link_stays_inside(
    root: Path, tmp_path: Path, victim: Path, target: str
) -> None:
    (root / "link").symlink_to(target.format(victim))
    (tmp_path / "file").write_text("from the host")
    entries = [
        PROC, mount("/link", kind="tmpfs"), mount("/link/deep", "bind", source=tmp_path),
        mount("/link/file", "bind", source=tmp_path / "file"),
    ]

    def look() -> bool:
        return all(each.place.startswith(str(root)) for each in mounts().values() if each.source == "tmpfs-of-test")

    entries[1].source = "tmpfs-of-test"
    try:
        assert furnished(root, entries, look)
    except OSError as error:
        assert error.strerror and ("link" in error.strerror or "No such file" in error.strerror), error


def stays_inside(root: Path, volume: Path, entries: list[oci.Mount], rounds: int) -> int:
    """Make the mounts again and again; all of a round's mounts lie in the root. Returns how often that worked."""
    before = {each.id for each in mounts().values()}

    def look() -> bool:
        return all(each.place.startswith(str(root)) for each in mounts().values() if each.source == "of-the-test")

    worked = 0
    for _ in range(rounds):
        try:
            assert furnished(root, [mount("/vol", "bind", source=volume), *entries], look)
            worked += 1
        except OSError:
            pass  # an honest error: the target was something else at that moment
    assert {each.id for each in mounts().values()} == before
    return worked


def test_cve_2021_30465_a_target_that_is_swapped_during_the_setup(root: Path, tmp_path: Path, victim: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "target").mkdir(parents=True)
    (volume / "swap").symlink_to(f"../../../../../../../..{victim}")
    entries = [mount("/vol/target", kind="tmpfs", source="of-the-test"),
               mount("/vol/target/below", "bind", source=tmp_path)]
    with exchanging(volume, "target", "swap"):
        assert stays_inside(root, volume, entries, 150) > 0


def test_cve_2024_45310_nothing_is_made_on_the_host_by_a_race(root: Path, tmp_path: Path, victim: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "way").mkdir(parents=True)
    (volume / "swap").symlink_to(f"../../../../../../../..{victim}")
    (tmp_path / "file").write_text("")
    entries = [mount("/vol/way/new/directory", kind="tmpfs", source="of-the-test"),
               mount("/vol/way/new/file", "bind", source=tmp_path / "file")]
    with exchanging(volume, "way", "swap"):
        assert stays_inside(root, volume, entries, 150) > 0


def test_cve_2024_45310_a_device_is_not_made_on_the_host_by_a_race(root: Path, tmp_path: Path, victim: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "way").mkdir(parents=True)
    (volume / "swap").symlink_to(f"../../../../../../../..{victim}")
    device = MakeDevice("/vol/way/new/zero", "c", 1, 5, 0o666, 0, 0)
    with exchanging(volume, "way", "swap"):
        for _ in range(100):
            try:
                furnished(root, [mount("/vol", "bind", source=volume)], more=[device])
            except OSError:
                pass


@pytest.mark.parametrize("attempt", ["tmpfs", "populate", "device", "console", "bind"])
def test_cve_2026_41579_2026_47766_a_link_at_dev(root: Path, victim: Path, attempt: str) -> None:
    (root / "dev").symlink_to(f"../../../../../../..{victim}")
    (root / victim.relative_to("/")).mkdir(parents=True)  # what the link leads to inside

    def act() -> None:
        stage = apply([DetachPropagation(0), BindRoot(str(root), str(root))])
        if attempt in ("tmpfs", "bind"):
            entry = mount("/dev", "bind", source="/dev") if attempt == "bind" else mount("/dev", kind="tmpfs")
            apply([mount_entries.operation(entry, None, True)], stage)
        elif attempt == "populate":
            PopulateDev().apply(stage)
        elif attempt == "device":
            MakeDevice("/dev/zero", "c", 1, 5, 0o666, 0, 0).apply(stage)
        else:
            apply([mount_entries.operation(mount("/pts", kind="devpts"), None, True)], stage)
            stage.devpts = os.open(root / "pts", os.O_PATH)
            OpenConsole().apply(stage)

    with pytest.raises(NotADirectoryError, match="must be mounted on ordinary directory"):
        in_namespaces(act)
    assert list((root / victim.relative_to("/")).iterdir()) == []


def test_cve_2025_31133_a_mask_is_the_null_device_whatever_dev_holds(root: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "null").symlink_to("/proc/sys/kernel/core_pattern")

    def look() -> int:
        return os.stat(root / "proc/keys").st_rdev

    entries = [PROC, mount("/dev", "bind", source=dev)]
    assert furnished(root, entries, look, more=[MaskPath("/proc/keys")]) == os.makedev(1, 3)
    assert os.readlink(dev / "null") == "/proc/sys/kernel/core_pattern"


@pytest.mark.parametrize("kind", ["file", "zero"])
def test_cve_2025_31133_a_host_whose_dev_null_is_something_else(root: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("secret")

    def act() -> None:
        kernel.set_propagation("/", kernel.MS_PRIVATE | kernel.MS_REC)
        fd = kernel.clone_tree(str(tmp_path / "file") if kind == "file" else "/dev/zero")
        kernel.attach(fd, os.open("/dev/null", os.O_PATH))
        furnished(root, [PROC], more=[MaskPath("/proc/keys")])

    with pytest.raises(OSError, match="is not the null device"):
        in_namespaces(act)


def test_cve_2025_31133_a_bound_device_is_the_one_that_was_meant(root: Path, tmp_path: Path) -> None:
    """In a user namespace the host's nodes are bound: one that is another device by now is not taken for it."""
    os.chown(root, 100000, 100000)
    let_through(tmp_path)

    def act() -> Any:
        kernel.set_propagation("/", kernel.MS_PRIVATE | kernel.MS_REC)
        kernel.attach(kernel.clone_tree("/dev/zero"), os.open("/dev/full", os.O_PATH))
        return furnished(root, [mount("/dev", kind="tmpfs")], make_dev=True, ids=[(0, 100000, 65536)])

    with pytest.raises(OSError, match="the host has no such device") as failed:
        in_namespaces(act)
    assert failed.value.filename == "/dev/full"


@pytest.mark.parametrize("make", [
    lambda place, victim: place.symlink_to("/proc/sysrq-trigger"),
    lambda place, victim: place.symlink_to(f"../../../../../..{victim}/made"),
    lambda place, victim: place.mkdir(),
])
def test_cve_2025_52565_dev_console_is_no_way_out(
    root: Path, tmp_path: Path, victim: Path, make: Callable[[Path, Path], None]
) -> None:
    dev = tmp_path / "dev"
    dev.mkdir()
    make(dev / "console", victim)
    entries = [PROC, mount("/dev", "bind", source=dev), mount("/dev/pts", "newinstance", "ptmxmode=666", kind="devpts")]
    with pytest.raises(FileExistsError, match="must be an ordinary file or a device"):
        furnished(root, entries, more=[OpenConsole()])


def test_cve_2025_52565_a_pty_is_never_opened_by_its_name(root: Path, tmp_path: Path) -> None:
    """A tmpfs over /dev/pts with a `0` that is a link: the terminal is the devpts', or there is none."""
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "0").symlink_to("/proc/sysrq-trigger")
    (fake / "ptmx").symlink_to("/dev/zero")
    entries = [PROC, mount("/dev", kind="tmpfs"), mount("/dev/pts", "newinstance", "ptmxmode=666", kind="devpts"),
               mount("/dev/pts", "bind", source=fake)]
    console = OpenConsole()

    def look() -> list[bool]:
        return [os.isatty(console.peer), os.fstat(console.peer).st_rdev == os.stat(root / "dev/console").st_rdev]

    assert furnished(root, entries, look, more=[console]) == [True, True]
    with pytest.raises(OSError, match="needs a mount of type devpts"):
        furnished(root, [entries[1], entries[3]], more=[OpenConsole()])


@pytest.mark.parametrize("options", [("ro",), ("rw",)])
def test_cve_2023_25809_the_hosts_cgroups_are_not_writable_in_a_user_namespace(
    root: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """No cgroup2 can be mounted without a cgroup namespace of its own: the host's tree, read-only to its last mount."""
    os.chown(root, 100000, 100000)
    let_through(tmp_path)

    def act() -> list[bool]:
        entry = mount("/sys/fs/cgroup", *options, kind="cgroup")
        operation = mount_entries.operation(entry, Host("v2", v2="/sys/fs/cgroup"), False)
        apply([DetachPropagation(0), BindRoot(str(root), str(root)), operation])
        return ["ro" in each.options for each in mounts(str(root) + "/sys/fs/cgroup").values()]

    found = in_namespaces(act, ids=[(0, 100000, 65536)])
    assert found and all(found)


def test_cve_2023_25809_where_there_is_nothing_to_bind_nothing_is_shown(root: Path, tmp_path: Path) -> None:
    os.chown(root, 100000, 100000)
    let_through(tmp_path)

    def host() -> Any:
        kernel.set_propagation("/", kernel.MS_PRIVATE | kernel.MS_REC)
        kernel.detach("/sys/fs/cgroup")
        kernel.detach("/sys")
        return in_namespaces(act, ids=[(0, 100000, 65536)])

    def act() -> list[Any]:
        operation = mount_entries.operation(mount("/sys/fs/cgroup", kind="cgroup"), Host("v2"), False)
        apply([DetachPropagation(0), BindRoot(str(root), str(root)), operation])
        found = mounts(str(root))["/sys/fs/cgroup"]
        return [found.kind, "ro" in found.options, os.listdir(root / "sys/fs/cgroup")]

    assert in_namespaces(host) == ["tmpfs", True, []]


def test_cve_2015_3631_nothing_is_mounted_over_the_root(root: Path) -> None:
    for destination in ("/", "//", "/.", "/x/..", "", "."):
        with pytest.raises(InvalidArgument, match="the root itself"):
            mount_entries.operation(mount(destination, kind="tmpfs"), None, True)


def test_cve_2015_3631_nor_by_a_link_of_the_image(root: Path, victim: Path) -> None:
    """It would be the root of whatever joins the container."""
    (root / "data").symlink_to("/")
    (root / "deep").mkdir()
    (root / "deep" / "link").symlink_to("../../..")

    def act(*entries: oci.Mount) -> str:
        operations = [mount_entries.operation(entry, None, True) for entry in entries]
        try:
            apply([DetachPropagation(0), BindRoot(str(root), str(root)), *operations])
        except OSError as error:
            return error.strerror
        return "mounted"

    for destination in ("/data", "/deep/link", "/data/data"):
        for entry in (mount(destination, kind="tmpfs"), mount(destination, "bind", source=victim)):
            assert "the root itself" in in_namespaces(lambda it=entry: act(it), flags=clone.NEWIPC), entry
    again = mount("/deep", "bind", source=root), mount("/deep", kind="tmpfs")  # the same directory at another place
    assert in_namespaces(lambda: act(*again), flags=clone.NEWIPC) == "mounted"


def test_masks_follow_no_link_out_of_the_root(root: Path, victim: Path) -> None:
    (root / "hidden").symlink_to(f"../../../../..{victim}")

    def act() -> bool:
        stage = Stage()
        apply([DetachPropagation(0), BindRoot(str(root), str(root)), MaskPath("/hidden")], stage)
        return str(victim) in mounts()

    assert in_namespaces(act, flags=clone.NEWIPC) is False
