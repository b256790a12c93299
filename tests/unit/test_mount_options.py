"""Mount options, destinations and what they become: pure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.linux import mount, overlay
from sampan.linux.cgroup import Host
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries, options, target
from sampan.runtime.cgroup_mount import Hierarchy, MountCgroups, _below
from sampan.runtime.devices import MakeDevice, PopulateDev
from sampan.runtime.mounts import BindMount, MountFilesystem, Remount

V1 = Host("v1", {"cpu": "/c/cpu,cpuacct", "cpuacct": "/c/cpu,cpuacct", "memory": "/c/memory"})


def operation(destination: str, kind: str, source: str, *given: str) -> object:
    entry = oci.Mount(destination=destination, type=kind, source=source, options=list(given))
    return mount_entries.operation(entry, V1, True)


def test_attributes_later_ones_win() -> None:
    found = options.parse(["ro", "rw", "nosuid", "suid", "nosuid"])
    assert (found.set, found.clear) == (mount.ATTR_NOSUID, mount.ATTR_RDONLY)
    found = options.parse(["noatime", "strictatime"])
    assert (found.set, found.clear) == (mount.ATTR_STRICTATIME, mount.ATTR_ATIME)  # the whole field: mount_setattr(2)
    assert options.parse(["noatime"]).clear == mount.ATTR_ATIME


def test_recursive_ones_too() -> None:
    found = options.parse(["rro", "rrw", "rnosuid", "rsuid", "rnosuid", "rnodev"])
    assert (found.recursive_set, found.recursive_clear) == (mount.ATTR_NOSUID | mount.ATTR_NODEV, mount.ATTR_RDONLY)
    found = options.parse(["rrw", "rdev", "rro"])
    assert (found.recursive_set, found.recursive_clear) == (mount.ATTR_RDONLY, mount.ATTR_NODEV)


@pytest.mark.parametrize("name", ["ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"])
def test_recursive_attributes_are_apart(name: str) -> None:
    plain, deep = options.parse([name]), options.parse([f"r{name}"])
    assert plain.set == deep.recursive_set != 0
    assert plain.recursive_set == deep.set == 0


def test_propagation_in_order() -> None:
    assert options.parse(["rslave", "shared"]).propagation == [mount.MS_SLAVE | mount.MS_REC, mount.MS_SHARED]
    assert options.parse(["runbindable"]).propagation == [mount.MS_UNBINDABLE | mount.MS_REC]


def test_data_flags_and_words_without_meaning() -> None:
    found = options.parse(["size=64m", "newinstance", "defaults", "tmpcopyup", "sync", "dirsync", "async", "idmap"])
    assert found.data == {"size": "64m", "newinstance": None}
    assert found.copy_up and found.superblock == ["dirsync"] and found.id_map == "idmap"
    assert options.parse(["relatime"]).data == {}  # not the recursive form of "elatime"
    assert options.parse(["remount", "rbind"]).remount


@pytest.mark.parametrize(("name", "flags"), [
    ("", 0), ("shared", mount.MS_SHARED), ("rshared", mount.MS_SHARED | mount.MS_REC), ("private", mount.MS_PRIVATE),
    ("runbindable", mount.MS_UNBINDABLE | mount.MS_REC), ("slave", mount.MS_SLAVE),
])
def test_root_propagation(name: str, flags: int) -> None:
    assert options.root_propagation(name) == flags
    with pytest.raises(ValueError, match="none of shared"):
        options.root_propagation(f"{name}x")


@pytest.mark.parametrize(("path", "clean"), [
    ("/proc/.", "/proc"), ("//proc//", "/proc"), ("/a/../proc", "/proc"), ("/../../proc", "/proc"), ("proc", "/proc"),
    ("a/b", "/a/b"), ("", "/"), ("/", "/"), ("..", "/"), ("/a/./b/", "/a/b"),
])
def test_clean(path: str, clean: str) -> None:
    assert target.clean(path) == clean


@settings(deadline=None)
@given(st.text(alphabet="/.ab", max_size=30))
def test_a_clean_path_is_absolute_and_goes_nowhere_but_down(path: str) -> None:
    clean = target.clean(path)
    assert clean.startswith("/") and target.clean(clean) == clean
    assert not {"", ".", ".."} & set(clean.split("/")[1:]) or clean == "/"


WORDS = st.sampled_from(["bind", "rbind", "ro", "rro", "remount", "idmap", "rshared", "tmpcopyup", "size=1", "ratime"])


@settings(deadline=None)
@given(st.builds(
    oci.Mount, destination=st.text(max_size=12), type=st.sampled_from(["", "bind", "none", "tmpfs", "cgroup", "proc"]),
    source=st.text(max_size=5), options=st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=6),
))
def test_any_entry_is_one_operation_or_one_clear_error(entry: oci.Mount) -> None:
    try:
        made = mount_entries.operation(entry, V1, True)
    except InvalidArgument as error:
        assert "\n" not in str(error)
    else:
        assert made.describe()


def test_which_operation() -> None:
    assert isinstance(operation("/a", "none", "/s", "rbind"), BindMount)
    assert isinstance(operation("/a", "bind", "/s"), BindMount)
    assert isinstance(operation("/a", "tmpfs", "tmpfs"), MountFilesystem)
    assert isinstance(operation("/a", "", "", "remount", "ro", "bind"), Remount)
    assert operation("/sys/fs/cgroup", "cgroup", "cgroup") == MountCgroups(
        "/sys/fs/cgroup", options.MountOptions(),
        (Hierarchy("cpu,cpuacct", "cpu,cpuacct", "/c/cpu,cpuacct"), Hierarchy("memory", "memory", "/c/memory")))
    made = mount_entries.operation(oci.Mount(destination="c", type="cgroup2"), Host("v2", v2="/c"), False)
    assert made == MountCgroups("/c", options.MountOptions(), own=False)
    only_bind = operation("/a", "bind", "/s", "bind")
    assert isinstance(only_bind, BindMount) and not only_bind.options.recursive


@pytest.mark.parametrize(("entry", "said"), [
    (oci.Mount(destination="/", type="tmpfs"), "the root itself"),
    (oci.Mount(destination="/a/..", type="bind", source="/s"), "the root itself"),
    (oci.Mount(destination="", type="tmpfs"), "the root itself"),
    (oci.Mount(destination="/a\0b", type="tmpfs"), "NUL"),
    (oci.Mount(destination="/a", type="bind", source="/s", options=["size=1"]), "filesystem-specific"),
    (oci.Mount(destination="/a", type="bind"), "needs a source"),
    (oci.Mount(destination="/a", options=["ro"]), "neither a type"),
    (oci.Mount(destination="/a", type="tmpfs", options=["idmap"]), "only supported for bind"),
])
def test_what_cannot_be(entry: oci.Mount, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        mount_entries.operation(entry, V1, True)


def test_devices() -> None:
    linux = oci.Linux(devices=[
        oci.Device(path="/dev/null", type="c", major=9, minor=9),
        oci.Device(path="/dev/ptmx", type="c", major=5, minor=2),
        oci.Device(path="dev/./fuse", type="u", major=10, minor=229),
        oci.Device(path="/dev/pipe", type="p", file_mode=0o100600, uid=5),
    ])
    tmpfs = oci.Mount(destination="/dev", type="tmpfs")
    assert mount_entries.device_operations(linux, [tmpfs]) == [
        PopulateDev(), MakeDevice("/dev/fuse", "u", 10, 229, 0o666, 0, 0),
        MakeDevice("/dev/pipe", "p", 0, 0, 0o600, 5, 0),
    ]
    for bind in (oci.Mount(destination="/dev/", type="bind"), oci.Mount(destination="/dev", options=["rbind"])):
        assert mount_entries.device_operations(linux, [bind]) == []


@pytest.mark.parametrize("device", [
    oci.Device(path="/dev/x", type="a"), oci.Device(path="/", type="c"), oci.Device(path="/dev/x", type="b", major=-1),
    oci.Device(path="/dev/x", type="c", major=1 << 40), oci.Device(path="/dev/x", type="c", uid=1 << 32),
])
def test_what_is_no_device(device: oci.Device) -> None:
    with pytest.raises(InvalidArgument, match="device"):
        mount_entries.device_operations(oci.Linux(devices=[device]), [])


def test_overlay_layers() -> None:
    assert overlay.layers("/a:/b\\:c:/d\\\\e") == [("/a", False), ("/b:c", False), ("/d\\e", False)]
    assert overlay.layers("/a::/x::/y") == [("/a", False), ("/x", True), ("/y", True)]
    assert overlay.layers("") == []


def test_a_group_below_what_its_mount_shows() -> None:
    assert _below("/docker/a/b", "/docker/a") == "b"
    assert _below("/docker/a", "/docker/a") == ""
    assert _below("/docker/ab", "/docker/a") == ""
    assert _below("/x", "/") == "x"
