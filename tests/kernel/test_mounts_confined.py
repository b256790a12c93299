"""Mounts, devices and masks where the kernel allows less: in a user namespace; and the views of cgroups."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.mount_stage import apply, furnished, in_namespaces, let_through, mount, mounts

from sampan.linux import clone
from sampan.linux import mount as kernel
from sampan.linux.cgroup import Host, detect
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries
from sampan.runtime.masks import MaskPath, ReadonlyPath
from sampan.runtime.operation import Operation, OperationFailed, Recorder, Stage, perform
from sampan.runtime.root import BindRoot, DetachPropagation
from sampan.runtime.terminal import OpenConsole

IDS = [(0, 100000, 65536)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    os.chown(made, 100000, 100000)
    let_through(tmp_path)
    return made


def confined(root: Path, entries: Sequence[oci.Mount], work: Callable[[], Any], **more: Any) -> Any:
    return furnished(root, entries, work, ids=IDS, **more)


def test_devices_are_the_hosts_bound(root: Path) -> None:
    devices = [
        oci.Device(path="/dev/sub/zero", type="c", major=1, minor=5, uid=7),  # found by the kernel's name for 1:5
        oci.Device(path="/dev/pipe", type="p", file_mode=0o600),
        oci.Device(path="/dev/tty", type="c", major=5, minor=0, file_mode=0o620, gid=5),  # bound: stays the host's
    ]

    def look() -> list[Any]:
        Path(root / "dev/null").write_text("x")
        found = mounts(str(root))
        return [
            [os.stat(root / place).st_rdev for place in ("dev/null", "dev/tty", "dev/sub/zero")],
            stat.S_ISFIFO(os.stat(root / "dev/pipe").st_mode), found["/dev/sub/zero"].root,
            os.readlink(root / "dev/ptmx"),
        ]

    before = os.stat("/dev/zero")
    found = confined(root, [mount("/dev", "mode=755", kind="tmpfs")], look, make_dev=True, devices=devices)
    assert found == [[os.makedev(1, 3), os.makedev(5, 0), os.makedev(1, 5)], True, "/zero", "pts/ptmx"]
    after = os.stat("/dev/zero")
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)
    missing = [oci.Device(path="/dev/none", type="c", major=240, minor=77)]
    with pytest.raises(OSError, match="the host has no such device"):
        confined(root, [mount("/dev", kind="tmpfs")], lambda: None, make_dev=True, devices=missing)


def test_locked_flags_stay_and_asking_for_less_is_an_error(root: Path, tmp_path: Path) -> None:
    """A mount that another user namespace owns keeps its nosuid, nodev, noexec, ro: mount_namespaces(7)."""
    source = tmp_path / "source"
    source.mkdir()

    def locked(*options: str) -> Callable[[], Any]:
        def host() -> Any:
            kernel.set_propagation("/", kernel.MS_PRIVATE | kernel.MS_REC)
            fd = kernel.new("tmpfs", {"source": "t"}, kernel.ATTR_NOSUID | kernel.ATTR_NODEV | kernel.ATTR_NOATIME)
            target = os.open(source, os.O_PATH)
            kernel.attach(fd, target)
            entry = mount("/data", "bind", *options, source=source)
            return confined(root, [entry], lambda: sorted(mounts(str(root))["/data"].options))

        return host

    assert in_namespaces(locked()) == ["noatime", "nodev", "nosuid", "rw"]
    assert in_namespaces(locked("ro", "noexec")) == ["noatime", "nodev", "noexec", "nosuid", "ro"]
    for option in ("suid", "dev", "relatime"):
        with pytest.raises(PermissionError, match="locked by another user namespace"):
            in_namespaces(locked(option))


def test_a_directory_with_mounts_below_it_needs_rbind(root: Path, tmp_path: Path) -> None:
    (tmp_path / "source/below").mkdir(parents=True)

    def host(option: str) -> Any:
        kernel.set_propagation("/", kernel.MS_PRIVATE | kernel.MS_REC)
        fd = kernel.new("tmpfs", {"source": "t"})
        target = os.open(tmp_path / "source/below", os.O_PATH)
        kernel.attach(fd, target)
        entry = mount("/data", option, source=tmp_path / "source")
        return confined(root, [entry], lambda: "/data/below" in mounts(str(root)))

    assert in_namespaces(lambda: host("rbind"))
    with pytest.raises(OSError, match="only be bound with rbind"):
        in_namespaces(lambda: host("bind"))


@pytest.mark.parametrize(("kind", "said"), [("sysfs", "network namespace"), ("mqueue", "ipc namespace")])
def test_what_the_kernel_refuses_is_explained(root: Path, kind: str, said: str) -> None:
    with pytest.raises(PermissionError, match=said):
        confined(root, [mount("/a", kind=kind)], lambda: None)
    own = clone.NEWNET | clone.NEWIPC
    assert confined(root, [mount("/a", kind=kind)], lambda: mounts(str(root))["/a"].kind, flags=own) == kind


def test_masks_hide_in_a_user_namespace_too(root: Path) -> None:
    def look() -> list[Any]:
        try:
            (root / "proc/sys/kernel/domainname").write_text("x")
        except OSError as error:
            refused = error.errno
        return [os.stat(root / "proc/keys").st_rdev, os.listdir(root / "proc/acpi") if (root / "proc/acpi").exists()
                else [], refused]

    masks: list[Operation] = [MaskPath("/proc/keys"), MaskPath("/proc/acpi"), MaskPath("/proc/none"),
                              ReadonlyPath("/proc/sys")]
    found = confined(root, [mount("/proc", kind="proc")], look, more=masks, flags=clone.NEWPID)
    assert found == [os.makedev(1, 3), [], 30]


def test_a_terminal(root: Path) -> None:
    entries = [mount("/dev", kind="tmpfs"), mount("/dev/pts", "newinstance", "ptmxmode=666", kind="devpts")]
    console = OpenConsole(24, 80)

    def look() -> list[Any]:
        os.write(console.peer, b"out")
        return [os.read(console.master, 3).decode(), list(os.get_terminal_size(console.peer)),
                os.stat(root / "dev/console").st_rdev == os.fstat(console.peer).st_rdev]

    assert confined(root, entries, look, more=[console]) == ["out", [80, 24], True]
    assert furnished(root, entries, look, more=[console]) == ["out", [80, 24], True]
    with pytest.raises(OSError, match="needs a mount of type devpts"):
        furnished(root, [mount("/dev", kind="tmpfs")], more=[OpenConsole()])
    bound = [mount("/dev", "rbind", "rslave", source="/dev")]
    assert furnished(root, bound, look, more=[console]) == ["out", [80, 24], True]


def test_a_failure_names_the_operation_and_the_kernels_words(root: Path) -> None:
    def fail() -> str:
        linux = oci.Linux()
        plan = [DetachPropagation(0), BindRoot(str(root), str(root))]
        plan += mount_entries.operations(linux, [mount("/etc/x", "bind", source="/no/such")], None, True, {})
        try:
            perform(plan, Stage(), Recorder())
        except OperationFailed as error:
            return str(error)
        return ""

    assert in_namespaces(fail) == "bind /no/such on /etc/x: No such file or directory"


def cgroup_view(root: Path, host: Host, own: bool, *options: str, **more: Any) -> dict[str, list[Any]]:
    """Place below /sys/fs/cgroup → [kind, root of the mount, whether read-only]."""
    def build() -> Any:
        if own:
            clone.unshare(clone.NEWCGROUP)
        entry = mount("/sys/fs/cgroup", *options, kind="cgroup")
        apply([DetachPropagation(0), BindRoot(str(root), str(root)), mount_entries.operation(entry, host, own)])
        found = mounts(str(root) + "/sys/fs/cgroup")
        links = [path.name for path in (root / "sys/fs/cgroup").iterdir() if path.is_symlink()]
        return {place: [each.kind, each.root, "ro" in each.options] for place, each in found.items()} | {"links": links}

    found: dict[str, list[Any]] = in_namespaces(build, **more)
    return found


@pytest.fixture
def host() -> Host:
    return detect()


def test_cgroups_in_a_namespace_of_their_own(root: Path, host: Host) -> None:
    found = cgroup_view(root, host, True, "ro", "nosuid")
    if host.mode == "v2":
        assert found["/"] == ["cgroup2", "/", True]
        return
    assert found["/"][0] == "tmpfs" and found["/"][2]
    assert found["/memory"] == ["cgroup", "/", True] and found["/pids"] == ["cgroup", "/", True]
    assert ("/unified" in found) == (host.mode == "hybrid")
    assert cgroup_view(root, host, True)["/memory"] == ["cgroup", "/", False]


def test_cgroups_in_the_hosts_namespace_are_the_own_group(root: Path, host: Host) -> None:
    if host.mode == "v2":
        assert cgroup_view(root, host, False, "ro")["/"] == ["cgroup2", "/", True]
        return
    group = Path("/sys/fs/cgroup/memory") / f"sampan-test-{os.getpid()}"
    group.mkdir()
    top = mounts()["/sys/fs/cgroup/memory"].root.rstrip("/")
    try:
        def move() -> Any:
            (group / "cgroup.procs").write_text("0")
            return cgroup_view(root, host, False, "ro")

        found = in_namespaces(move)
        assert found["/memory"] == ["cgroup", f"{top}/{group.name}", True]
        assert found["/"][0] == "tmpfs" and found["/"][2]
    finally:
        group.rmdir()


def test_the_hosts_v2_hierarchy_stays_as_it_is(root: Path, host: Host) -> None:
    """Its options (nsdelegate) are those of all mounts; who may write in a user namespace never gets the whole tree."""
    if host.mode != "v2":
        pytest.skip("needs cgroup v2")
    before = mounts()["/sys/fs/cgroup"].super_options
    assert cgroup_view(root, host, False)["/"] == ["cgroup2", "/", False]
    assert mounts()["/sys/fs/cgroup"].super_options == before
    assert cgroup_view(root, host, False, ids=IDS)["/"] == ["cgroup2", "/", True]
    assert mounts()["/sys/fs/cgroup"].super_options == before

    def born_outside() -> Any:  # the cgroup namespace belongs to another user namespace: nothing new is mounted
        clone.unshare(clone.NEWCGROUP)
        return confined(root, [mount("/sys/fs/cgroup", kind="cgroup")], lambda: sorted(
            mounts(f"{root}/sys/fs/cgroup")["/"].options))

    assert "ro" in in_namespaces(born_outside)


def test_co_mounted_controllers_have_links(root: Path) -> None:
    host = Host("v1", {"cpu": "/x/cpu,cpuacct", "cpuacct": "/x/cpu,cpuacct"})
    try:
        found = cgroup_view(root, host, True)
    except OSError:
        pytest.skip("cpu and cpuacct are mounted apart here")
    assert sorted(found["links"]) == ["cpu", "cpuacct"]
