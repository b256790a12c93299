"""The root: propagation between host and container, read-only, entering it with and without pivot_root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.mount_stage import apply, furnished, in_namespaces, let_through, mount, mounts

from sampan.linux import clone
from sampan.linux import mount as kernel
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries, mount_sources
from sampan.runtime.options import root_propagation
from sampan.runtime.root import BindRoot, DetachPropagation, EnterRoot, EnterRootWithoutPivot, ReadonlyRoot
from sampan.runtime.rootfs import Overlay, operation


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    for name in ("proc", "data", "bin"):
        (made / name).mkdir(parents=True)
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount point on the host whose events go to its peers."""
    place = tmp_path / "shared"
    place.mkdir()
    fd = kernel.new("tmpfs", {"source": "shared"})
    target = os.open(place, os.O_PATH)
    kernel.attach(fd, target)
    kernel.set_attributes(fd, propagation=kernel.MS_SHARED)
    os.close(target)
    os.close(fd)
    for name in ("from-host", "from-container"):
        (place / name).mkdir()
    yield place
    kernel.detach(str(place))


def mount_tmpfs(place: str) -> None:
    fd = kernel.new("tmpfs", {"source": "made"})
    target = os.open(place, os.O_PATH)
    kernel.attach(fd, target)
    os.close(target)
    os.close(fd)


def exchanged(
    root: Path, shared: Path, propagation: str, *options: str, prepared: dict[int, int] | None = None, **more: Any
) -> tuple[bool, bool]:
    """(whether a mount of the host appears in the container, whether one of the container appears on the host)."""
    ready, go = os.pipe(), os.pipe()

    def work() -> bool:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        arrived = "/data/from-host" in mounts()
        mount_tmpfs("/data/from-container")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        return arrived

    child = os.fork()
    if child == 0:
        try:
            entries = [mount("/data", *options, source=shared), mount("/proc", kind="proc")]
            arrived = furnished(
                root, entries, work, propagation=propagation, enter=True, prepared=prepared, **more)
            os._exit(10 + arrived)
        finally:
            os._exit(1)
    assert os.read(ready[0], 1) == b"x"
    mount_tmpfs(str(shared / "from-host"))
    os.write(go[1], b"x")
    assert os.read(ready[0], 1) == b"x"
    reached = str(shared / "from-container") in mounts()
    os.write(go[1], b"x")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for fd in (*ready, *go):
        os.close(fd)
    assert status in (10, 11), status
    return status == 11, reached


@pytest.mark.parametrize(("propagation", "options", "arrives", "reaches"), [
    ("", ("rbind",), True, False),  # as runc: a slave of the host's
    ("rslave", ("rbind", "rslave"), True, False),
    ("", ("rbind", "rprivate"), False, False),
    ("rprivate", ("rbind",), False, False),
    ("runbindable", ("bind",), False, False),
    ("rshared", ("rbind", "rshared"), True, True),
    ("shared", ("rbind",), True, True),
    ("rslave", ("rbind", "rslave", "shared"), True, False),
])
def test_what_passes_between_host_and_container(
    root: Path, shared: Path, propagation: str, options: tuple[str, ...], arrives: bool, reaches: bool
) -> None:
    assert exchanged(root, shared, propagation, *options) == (arrives, reaches)


@pytest.mark.parametrize(("propagation", "arrives"), [("", True), ("rshared", True), ("private", False)])
def test_what_passes_out_of_a_user_namespace(root: Path, shared: Path, propagation: str, arrives: bool) -> None:
    """The source was opened by the runtime, in the host's mount namespace: its copy is no peer all the same."""
    ids = [oci.IDMapping(container_id=0, host_id=100000, size=65536)]
    linux = oci.Linux(
        namespaces=[oci.Namespace(type="user")], uid_mappings=ids, gid_mappings=ids, rootfs_propagation=propagation)
    let_through(root)
    for place in (root, shared / "from-container"):
        os.chown(place, 100000, 100000)
    prepared = mount_sources.prepare(oci.Spec(linux=linux, mounts=[mount("/data", "rbind", source=shared)]))
    try:
        found = exchanged(
            root, shared, propagation, "rbind", prepared=prepared, ids=[(0, 100000, 65536)], flags=clone.NEWPID)
    finally:
        os.close(prepared[0])
    assert found == (arrives, False)


@pytest.mark.parametrize("propagation", ["", "private", "rslave", "shared", "rshared", "unbindable", "runbindable"])
def test_the_host_keeps_its_mounts(root: Path, shared: Path, propagation: str) -> None:
    """Detaching the old root, and attaching the new one below a shared mount, must not reach the host."""
    before = Path("/proc/self/mountinfo").read_text()
    entries = [mount("/proc", kind="proc"), mount("/data", "rbind", source=shared)]

    def look() -> list[Any]:
        top = mounts()["/"]
        return [sorted(mounts()), sorted(tag.partition(":")[0] for tag in top.tags), sorted(os.listdir("/"))]

    places, tags, names = furnished(root, entries, look, propagation=propagation, enter=True)
    assert places == ["/", "/data", "/proc"] and names == ["bin", "data", "proc"]
    assert ("shared" in tags) == ("shared" in propagation) and ("unbindable" in tags) == ("unbindable" in propagation)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_an_overlay_root_below_a_shared_mount(tmp_path: Path, root: Path) -> None:
    for name in ("upper", "work", "at"):
        (tmp_path / name).mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    rootfs = operation(Overlay([str(root)], str(tmp_path / "upper"), str(tmp_path / "work")), str(tmp_path / "at"))

    def enter() -> list[str]:
        flags = root_propagation("rshared")
        apply([DetachPropagation(flags), rootfs, EnterRoot(flags)])
        return sorted(os.listdir("/"))

    assert in_namespaces(enter) == ["bin", "data", "proc"]
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_read_only_root_with_writable_mounts(root: Path) -> None:
    def look() -> list[bool]:
        return [os.access(place, os.W_OK) for place in ("/", "/bin", "/data")]

    entries = [mount("/data", kind="tmpfs")]
    assert furnished(root, entries, look, more=[ReadonlyRoot()], enter=True) == [False, False, True]


@pytest.mark.parametrize("propagation", ["", "rshared"])
def test_without_pivot_the_hosts_procfs_is_gone(root: Path, propagation: str) -> None:
    """As on a host that runs from an initramfs. The old root is covered, its whole procfs and sysfs are away."""
    before = Path("/proc/self/mountinfo").read_text()

    def enter() -> list[Any]:
        linux = oci.Linux()
        flags = root_propagation(propagation)
        plan = [DetachPropagation(flags), BindRoot(str(root), str(root))]
        plan += mount_entries.operations(linux, [mount("/proc", kind="proc")], None, True, {})
        stage = apply([*plan, EnterRootWithoutPivot(flags)])
        whole = [each.place for each in mounts().values() if each.kind in ("proc", "sysfs")]
        escaped = os.path.exists("/../../../etc/passwd")
        os.chdir("/")
        os.chroot("bin")
        for _ in range(20):
            os.chdir("..")
        os.chroot(".")
        return [whole, escaped, sorted(os.listdir("/")), stage.root >= 0]

    assert in_namespaces(enter) == [["/proc"], False, ["bin", "data", "proc"], True]
    assert Path("/proc/self/mountinfo").read_text() == before


def test_where_pivot_root_is_impossible_the_message_says_what_to_do(root: Path) -> None:
    """A chroot refuses pivot_root with the error that an initramfs gives."""

    def enter() -> None:
        stage = apply([DetachPropagation(0), BindRoot(str(root), str(root))])
        os.chroot("/usr")
        apply([EnterRoot(0)], stage)

    with pytest.raises(OSError, match="--no-pivot"):
        in_namespaces(enter)


def test_a_root_on_the_hosts_root_file_system() -> None:
    def enter() -> int:
        apply([DetachPropagation(0), BindRoot("/usr", "/usr"), EnterRoot(0)])
        return len(os.listdir("/bin"))

    assert in_namespaces(enter) > 10


def test_without_pivot_in_a_user_namespace_the_hosts_procfs_is_covered(root: Path) -> None:
    """There the host's mounts are locked: they cannot be taken away, only covered (mount_namespaces(7))."""
    let_through(root)
    os.chown(root, 100000, 100000)
    os.chown(root / "proc", 100000, 100000)

    def enter() -> list[Any]:
        plan = [DetachPropagation(0), BindRoot(str(root), str(root))]
        plan += mount_entries.operations(oci.Linux(), [mount("/proc", kind="proc")], None, True, {})
        apply([*plan, EnterRootWithoutPivot(0)])
        return [sorted(os.listdir("/")), os.path.exists("/proc/self")]

    names, mounted = in_namespaces(enter, ids=[(0, 100000, 65536)], flags=clone.NEWPID)
    assert names == ["bin", "data", "proc"] and mounted
