"""Attacks on who a container's process becomes, and on what is written for it below /proc. Each carries its CVE."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.forked import in_child
from tests.runtime_fixture import dock

from sampan.errors import InvalidArgument
from sampan.linux import capability, mount, procfs, security
from sampan.oci import runtime as oci
from sampan.runtime import sysctl, users
from sampan.runtime.identity import BecomeUser, final_sets
from sampan.runtime.kernel import SetOomScore, SetSysctl
from sampan.runtime.labels import SetAppArmorProfile, SetSelinuxLabel
from sampan.runtime.operation import Operation, Stage

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if flags & CLONE_NEWNS:
        mount.set_propagation("/", mount.MS_PRIVATE | mount.MS_REC)


class Root:
    """A container's root that its image filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "etc").mkdir()
        self.write("passwd", "root:x:0:0:root:/root:/bin/sh\nship:x:1000:1000::/home/ship:/bin/sh\n")
        self.write("group", "root:x:0:\nship:x:1000:\ncrew:x:50:ship\n")
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def write(self, name: str, text: str) -> None:
        (self.path / "etc" / name).write_text(text)

    def resolve(self, name: str) -> users.Identity:
        return users.resolve(oci.User(username=name), self.fd)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


# ---- who


@pytest.mark.parametrize("line", ["1000:x:0:0::/:/bin/sh", "1000:x:5:5::/:\n", "01000:x:0:0::/:/bin/sh"])
def test_cve_2016_3697_and_2026_46680_a_number_is_never_a_name(root: Root, line: str) -> None:
    root.write("passwd", f"{line}\nroot:x:0:0:root:/root:/bin/sh\n")
    root.write("group", "1000:x:0:\n")
    assert root.resolve("1000").uid == 1000
    assert root.resolve("1000:1000").gid == 1000
    assert root.resolve("0").uid == 0


@as_root
def test_cve_2026_30892_exec_user_is_digits_or_an_error(tmp_path: Path) -> None:
    """`-u 1` was uid 0 in crun. What the image's passwd says of "1" is nobody's business (CVE-2016-3697)."""
    with dock(tmp_path) as boat:
        (boat.root / "etc").mkdir(exist_ok=True)
        (boat.root / "etc/passwd").write_text("1:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n")
        boat.launch("sleep", "1000")
        for text, ids in (("1", "1 0"), ("10:10", "10 10"), ("0:1", "0 1")):
            seen = boat.exec("sh", "-c", "echo $(id -u) $(id -g)", options=["--user", text])
            assert seen.stdout.strip() == ids, seen.stderr
        for text in ("+1", "-1", " 1", "1 ", "0x1", "1_0", "\u0661", "1:", ":1", "1:-1", "1:1:1", "root", "4294967295"):
            done = boat.exec("id", options=[f"--user={text}"])
            assert done.returncode != 0 and done.stdout == "", text


@pytest.mark.parametrize("number", ["2147483648", "4294967295", "4294967296", "18446744073709551616", "9" * 5000])
def test_cve_2024_40635_ids_that_wrap(root: Root, number: str) -> None:
    for name in (number, f"0:{number}"):
        with pytest.raises(InvalidArgument, match="out of range"):
            root.resolve(name)
    root.write("passwd", f"wrap:x:{number}:0::/:/bin/sh\n")
    with pytest.raises(InvalidArgument, match="out of range"):
        root.resolve("wrap")


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**64])
def test_cve_2024_40635_ids_of_a_spec(root: Root, number: int) -> None:
    """2**32-1 is the worst of them: to setresuid(2) it means "stay root"."""
    for user in (oci.User(uid=number), oci.User(gid=number), oci.User(additional_gids=[number])):
        with pytest.raises(InvalidArgument, match="out of range"):
            users.by_ids(user, root.fd)


def test_a_spec_from_outside_does_not_name_its_user(root: Root) -> None:
    found = users.by_ids(oci.User(uid=1000, gid=1000, username="root", additional_groups=["root"]), root.fd)
    assert (found.uid, found.gid, found.groups, found.home) == (1000, 1000, (), "/home/ship")


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_cve_2024_9676_a_fifo_hangs_nobody(root: Root, name: str) -> None:
    (root.path / "etc" / name).unlink()
    os.mkfifo(root.path / "etc" / name)
    with pytest.raises(OSError, match="not a regular file"):
        root.resolve("ship")
    assert users.by_ids(oci.User(uid=1000), root.fd).uid == 1000


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_cve_2024_9676_a_link_to_the_hosts_fifo_stays_inside(
    root: Root, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fifo = tmp_path_factory.mktemp("host") / "fifo"
    os.mkfifo(fifo)
    (root.path / "etc" / name).unlink()
    (root.path / "etc" / name).symlink_to(fifo)
    if name == "passwd":
        with pytest.raises(InvalidArgument, match="unable to find user ship"):
            root.resolve("ship")
    else:
        assert root.resolve("ship").groups == (1000,)


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_cve_2026_47262_a_giant_costs_no_memory(root: Root, name: str) -> None:
    os.truncate(root.path / "etc" / name, 1 << 40)
    with pytest.raises(OSError, match="larger than"):
        root.resolve("ship")
    assert users.by_ids(oci.User(uid=5), root.fd).home == "/"


def test_cve_2022_36109_the_primary_group_is_among_the_others(root: Root) -> None:
    assert root.resolve("ship").groups == (1000, 50)
    assert root.resolve("ship:crew").groups == (50,)
    assert root.resolve("1000:7").groups == (7,)
    assert root.resolve("12345").groups == (0,)


# ---- what it may


def become(uid: int, wanted: oci.Capabilities, before: Callable[[], None] = lambda: None) -> object:
    """The five sets of a process that becomes `uid`, in hexadecimal."""

    def act() -> object:
        before()
        sets, _ = final_sets(wanted)
        BecomeUser(users.Identity(uid, uid, (uid,), "/"), sets, capability.last_cap()).apply(Stage())
        found = capability.read()
        return [found.bounding, found.effective, found.inheritable, found.permitted, found.ambient]

    return in_child(act)


def with_inheritable_and_ambient() -> None:
    ours = capability.read()
    capability.set_sets(ours.effective, ours.permitted, ours.permitted)
    capability.set_ambient(ours.permitted)


KILL = capability.to_mask(["CAP_KILL"])


@as_root
@pytest.mark.parametrize("uid", [0, 1000])
def test_cve_2022_29162_inheritable_is_what_the_spec_says(uid: int) -> None:
    """Also 2022-24769, 27649, 27650, 27651: what came from whoever started us ends here."""
    wanted = oci.Capabilities(bounding=["CAP_KILL"], effective=["CAP_KILL"], permitted=["CAP_KILL"])
    assert become(uid, wanted, with_inheritable_and_ambient) == [KILL, KILL, 0, KILL, 0]


@as_root
def test_cve_2016_8867_ambient_is_what_the_spec_says() -> None:
    assert become(1000, oci.Capabilities(bounding=["CAP_KILL"]), with_inheritable_and_ambient) == [KILL, 0, 0, 0, 0]


@as_root
def test_cve_2021_20188_no_capability_comes_from_nowhere() -> None:
    """Effective is never more than permitted, ambient never more than permitted and inheritable."""
    wanted = oci.Capabilities(effective=["CAP_SYS_ADMIN"], ambient=["CAP_SYS_ADMIN"], permitted=["CAP_KILL"])
    assert become(1000, wanted) == [0, 0, 0, KILL, 0]


@as_root
def test_without_the_right_to_drop_groups_none_is_added() -> None:
    """CVE-2014-8989: where setgroups is denied, a container cannot be given groups, and is not started with fewer."""

    def act() -> object:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/self/gid_map").write_text("0 0 1")
        BecomeUser(users.Identity(0, 0, (0,), "/"), None, 0).apply(Stage())
        try:
            BecomeUser(users.Identity(0, 0, (0, 5), "/"), None, 0).apply(Stage())
        except OSError as error:
            return error.strerror
        return "got them"

    assert in_child(act) == "cannot set any additional groups in a rootless container"


@as_root
def test_an_id_that_is_not_mapped_is_no_other_id() -> None:
    def act() -> object:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/self/gid_map").write_text("0 0 1")
        try:
            BecomeUser(users.Identity(1000, 0, (0,), "/"), None, 0).apply(Stage())
        except OSError as error:
            return [error.filename, error.strerror]
        return os.getuid()

    assert in_child(act) == ["1000:0", "is not mapped in the container's user namespace"]


# ---- what is written below /proc


@pytest.mark.parametrize("key", [
    "kernel.shm_rmid_forced+kernel.core_pattern", "kernel.shm_rmid_forced=1+kernel.core_pattern",
    "net/../kernel/core_pattern", "net.ipv4/../../kernel/core_pattern", "net...kernel.core_pattern",
    "/kernel/core_pattern", "net./kernel/core_pattern", "kernel.shm_rmid_forced\nkernel.core_pattern",
    "kernel.core_pattern",
    "fs.mqueue.x/../../../kernel/core_pattern", "fs.mqueue./../..", "net.ipv4.conf.*/../../../kernel.core_pattern",
])
def test_cve_2022_0811_a_sysctl_smuggles_no_other(key: str) -> None:
    every = oci.Linux(namespaces=[oci.Namespace(type=kind) for kind in ("ipc", "network", "uts")])
    with pytest.raises(InvalidArgument):
        sysctl.check({key: "1"}, every)


@as_root
def test_cve_2022_0811_a_value_is_one_value() -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    value = "1+kernel.core_pattern=|/bin/evil"

    def act() -> object:
        unshare(CLONE_NEWIPC)
        SetSysctl("kernel.shm_rmid_forced", value).apply(Stage())
        return "written"

    assert in_child(act) == "OSError"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before
    with pytest.raises(InvalidArgument, match="more than one line"):
        sysctl.check({"kernel.sem": "1\nx"}, oci.Linux(namespaces=[oci.Namespace(type="ipc")]))


def fake_proc(directory: Path) -> Path:
    """What an attacker's volume at /proc looks like."""
    for name in ("self", "thread-self"):
        (directory / name / "attr/apparmor").mkdir(parents=True)
        for file in ("attr/exec", "attr/apparmor/exec", "attr/keycreate", "oom_score_adj", "setgroups"):
            (directory / name / file).write_text("untouched")
    return directory


def over_proc(tmp_path: Path, operation: Operation) -> list[object]:
    """Apply with the attacker's directory bound over /proc; what went wrong, and what the files hold then."""
    fake = fake_proc(tmp_path)

    def act() -> object:
        unshare(CLONE_NEWNS)
        source = mount.clone_tree(str(fake))
        target = os.open("/proc", os.O_PATH)
        mount.attach(source, target)
        try:
            operation.apply(Stage())
        except OSError as error:
            return [error.filename, error.strerror]
        return ["", ""]

    seen = in_child(act)
    assert isinstance(seen, list)
    assert {path.read_text() for path in fake.rglob("*") if path.is_file()} == {"untouched"}
    return seen


@as_root
def test_cve_2019_16884_a_label_goes_to_no_volume(tmp_path: Path) -> None:
    """It goes to a procfs of our own; this host's kernel may then have no AppArmor to take it."""
    where, why = over_proc(tmp_path, SetAppArmorProfile("docker-default"))
    if not security.apparmor_enabled():
        assert why and "attr" in str(where)


@as_root
def test_cve_2019_16884_an_selinux_label_goes_to_no_volume(tmp_path: Path) -> None:
    where, why = over_proc(tmp_path, SetSelinuxLabel("system_u:system_r:container_t:s0"))
    if not security.selinux_enabled():
        assert why and "attr" in str(where)


@as_root
def test_cve_2019_16884_nor_does_anything_that_needs_the_hosts_proc(tmp_path: Path) -> None:
    assert over_proc(tmp_path, SetOomScore(0)) == ["/proc", "is not the root of a procfs"]


@as_root
@pytest.mark.parametrize("file", ["sys/kernel/shm_rmid_forced", "sys/kernel", "sys"])
def test_cve_2025_52881_a_mount_over_an_entry_redirects_nothing(tmp_path: Path, file: str) -> None:
    decoy = tmp_path / "decoy"
    entry = Path("sys/kernel/shm_rmid_forced").relative_to(file)
    if str(entry) == ".":
        decoy.write_text("untouched")
    else:
        (decoy / entry).parent.mkdir(parents=True)
        (decoy / entry).write_text("untouched")

    def act() -> object:
        unshare(CLONE_NEWNS | CLONE_NEWIPC)
        proc = mount.new("proc")
        at = os.open("/mnt", os.O_PATH)
        mount.attach(proc, at)
        mount.attach(mount.clone_tree(str(decoy)), os.open(file, os.O_PATH, dir_fd=proc))
        stage = Stage(proc=proc)
        try:
            SetSysctl("kernel.shm_rmid_forced", "1").apply(stage)
        except OSError as error:
            return error.errno
        return "written"

    assert in_child(act) == 18  # EXDEV
    assert (decoy / entry if str(entry) != "." else decoy).read_text() == "untouched"


@as_root
def test_cve_2025_52881_a_procfs_of_somebody_elses_directory_is_none(tmp_path: Path) -> None:
    """A bind of a directory of a real procfs: its type is right, its files are another process's."""
    with pytest.raises(OSError, match="not the root of a procfs"):
        fd = os.open("/proc/1", os.O_PATH)
        try:
            procfs.write_own(fd, "attr/exec", b"x")
        finally:
            os.close(fd)


@as_root
def test_a_proc_that_is_a_symlink_is_none(tmp_path: Path) -> None:
    def act() -> object:
        unshare(CLONE_NEWNS)
        (tmp_path / "proc").symlink_to("/proc")
        os.chroot(tmp_path)
        try:
            os.close(procfs.open_root())
        except OSError as error:
            return error.errno
        return "opened"

    assert in_child(act) == 20  # ENOTDIR: O_NOFOLLOW with O_DIRECTORY


# ---- a whole container


@as_root
def test_cve_2022_29162_an_exec_inherits_nothing_either(tmp_path: Path) -> None:
    """A caller with inheritable and ambient capabilities, `create` and `exec`: neither program gets one of them."""
    with dock(tmp_path) as boat:
        some = "+kill,+chown,+net_raw"
        boat.program = ("setpriv", f"--inh-caps={some}", f"--ambient-caps={some}", *boat.program)
        sets = ["grep", "-E", "^Cap(Inh|Amb)", "/proc/self/status"]
        done = boat.run(*sets)
        assert set(done.stdout.split()[1::2]) == {"0" * 16}, done.stderr
        boat.config["process"]["user"] = {"uid": 1000, "gid": 1000}
        boat.launch("sleep", "1000", name="other")
        boat.name = "other"
        for options in ([], ["--user", "0"], ["--cap", "CAP_KILL"]):
            seen = boat.exec(*sets, options=options)
            assert set(seen.stdout.split()[1::2]) == {"0" * 16}, (options, seen.stdout, seen.stderr)


@as_root
def test_cve_2019_19921_a_label_needs_a_proc_that_is_one(tmp_path: Path) -> None:
    """The container's /proc is a directory of its image's. What is set for the process goes to procfs all the same."""
    with dock(tmp_path) as boat:
        fake_proc(boat.root / "proc" if (boat.root / "proc").is_dir() else tmp_path / "x")
        boat.config["mounts"] = [mount for mount in boat.config["mounts"] if mount["destination"] != "/proc"]
        boat.config["linux"]["maskedPaths"] = boat.config["linux"]["readonlyPaths"] = []
        boat.config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": "1"}
        boat.config["process"]["oomScoreAdj"] = 100
        assert boat.run("true").returncode == 0
        assert {path.read_text() for path in (boat.root / "proc").rglob("*") if path.is_file()} <= {"untouched"}
