"""A host of its own for one test run: the tests of a container engine run inside a container.

        P0  the process the user started: waits, passes signals on, sweeps up behind the run
        └── P1  process 1 of a new pid namespace: reaps orphans as a host's init does
            └── P2  pytest

P1 and P2 have their own pid, mount, network and cgroup namespaces, with /proc, /sys and every cgroup hierarchy mounted
anew, an empty /run and /tmp, and a network of loopback plus an `eth0` that leads nowhere. So all of a run's processes,
mounts, devices, nft tables and cgroups can be listed exactly, two runs at once see nothing of each other, and whatever
a broken test leaves dies with P1. Mounts are shared inside, as on a host with systemd: an engine that forgets to make
its own mounts private is found out.

Without root, or with SAMPAN_TEST_SANDBOX=no, the tests run where they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x02000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

INSIDE = "SAMPAN_TEST_RUN"
"""Environment variable with the run's name: set in the sandbox, inherited by all that the tests start."""
CGROUP_ROOT = Path("/sys/fs/cgroup")
CHECKOUT = Path(__file__).resolve().parents[1]

# eth0 and its other end live in the same namespace: an address and a default route without an outside.
NETWORK = """\
link set lo up
link add eth0 type veth peer name outside
link set outside up
link set eth0 up
address add 198.51.100.2/24 dev eth0
route add default via 198.51.100.1
"""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup file system as the host has it mounted."""

    mountpoint: Path
    fstype: str
    options: str


def wanted() -> bool:
    return os.geteuid() == 0 and os.environ.get("SAMPAN_TEST_SANDBOX") != "no" and not inside()


def inside() -> bool:
    """Whether this process is a run's pytest."""
    return INSIDE in os.environ


def enter(keep: Sequence[Path]) -> None:
    """Returns in P2 only; P0 exits with pytest's status. `keep`: directories that stay visible though below /tmp."""
    directory = Path(tempfile.mkdtemp(prefix="sampan-test-", dir="/tmp"))
    directory.chmod(0o1777)
    cgroups = list(_own_cgroups(directory.name))
    sys.stdout.flush()
    sys.stderr.flush()
    _check(_libc.unshare(CLONE_NEWPID), "unshare", "pid namespace")
    pid = os.fork()
    if pid:
        os._exit(_outside(pid, directory, cgroups))
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl", "PR_SET_PDEATHSIG")
    _furnish(cgroups)
    for path in (CHECKOUT, Path(sys.prefix)):
        _open_the_way(path)
    _own_tmp(directory, [*keep, Path(sys.prefix)])
    pid = os.fork()
    if pid:
        os._exit(_reap(pid))
    os.environ[INSIDE] = directory.name


def _check(result: int, call: str, what: str) -> None:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{call}: {os.strerror(errno)}", what)


def _mount(source: str, target: Path | str, fstype: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(source.encode(), os.fsencode(target), fstype.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, "mount", str(target))


def _hierarchies() -> Iterator[Hierarchy]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fstype, _, options = after.split(" ")
        if fstype.startswith("cgroup"):
            yield Hierarchy(Path(before.split(" ")[4]), fstype, options.partition(",")[2])


def _own_cgroups(name: str) -> Iterator[tuple[Hierarchy, Path]]:
    """Make this run's group in every hierarchy, and give it the controllers the host has."""
    for hierarchy in _hierarchies():
        group = hierarchy.mountpoint / name
        if hierarchy.fstype == "cgroup2":
            _enable_controllers(hierarchy.mountpoint)
        group.mkdir()
        for key in ("cpuset.cpus", "cpuset.mems"):
            if hierarchy.fstype == "cgroup" and (group / key).exists():
                (group / key).write_text((hierarchy.mountpoint / key).read_text())
        yield hierarchy, group


def _enable_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))


def _furnish(cgroups: list[tuple[Hierarchy, Path]]) -> None:
    """In P1: the new namespaces, and the file systems that show them."""
    for _, group in cgroups:
        (group / "cgroup.procs").write_text("0")
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWCGROUP), "unshare", "mount, net and cgroup namespaces")
    for hierarchy, group in cgroups:
        if hierarchy.fstype == "cgroup2":  # a group with processes cannot give controllers to its children
            (group / "run").mkdir()
            (group / "run" / "cgroup.procs").write_text("0")
            _enable_controllers(group)
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    links = _links(CGROUP_ROOT)
    for old in ("/sys", "/proc"):  # away first: two mounts of one thing in mountinfo mislead whoever looks there
        _check(_libc.umount2(old.encode(), MNT_DETACH), "umount2", old)
    _mount("proc", "/proc", "proc")
    _mount("sysfs", "/sys", "sysfs")
    if all(hierarchy.mountpoint != CGROUP_ROOT for hierarchy, _ in cgroups):
        _mount("tmpfs", CGROUP_ROOT, "tmpfs", data="mode=755")
    for hierarchy, _ in cgroups:
        hierarchy.mountpoint.mkdir(exist_ok=True)
        _mount(hierarchy.fstype, hierarchy.mountpoint, hierarchy.fstype, data=hierarchy.options)
    for name, target in links:
        (CGROUP_ROOT / name).symlink_to(target)
    _mount("tmpfs", "/run", "tmpfs", data="mode=755")
    Path("/run/netns").mkdir()  # with its mount, as the first `ip netns add` on a host makes it for good
    _mount("/run/netns", "/run/netns", "none", MS_BIND)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # a new namespace copies the host's
    subprocess.run(["ip", "-batch", "-"], input=NETWORK.encode(), check=True, close_fds=True)


def _open_the_way(path: Path) -> None:
    """Let ordinary users, whom some tests become, reach a directory that may lie in somebody's home.

    What is closed to others on the way is covered, in this run alone, by an open directory with the same entries.
    """
    for above in reversed(path.parents):
        if above.stat().st_mode & 0o001:
            continue
        fd = os.open(above, os.O_PATH | os.O_DIRECTORY)
        entries = [entry for entry in above.iterdir() if entry.is_symlink() or entry.is_dir() or entry.is_file()]
        links = {entry.name: entry.readlink() for entry in entries if entry.is_symlink()}
        directories = {entry.name for entry in entries if entry.is_dir()}
        _mount("tmpfs", above, "tmpfs", data="mode=755")
        for entry in entries:
            if entry.name in links:
                entry.symlink_to(links[entry.name])
                continue
            entry.mkdir() if entry.name in directories else entry.touch()
            _mount(f"/proc/self/fd/{fd}/{entry.name}", entry, "none", MS_BIND | MS_REC)
        os.close(fd)


def _own_tmp(directory: Path, keep: Sequence[Path]) -> None:
    """An own /tmp, on the same file system as the host's. Then: mounts are shared from here on."""
    cwd = Path.cwd()
    below = [path.resolve() for path in keep if path.resolve().is_relative_to("/tmp")]
    for path in below:
        (directory / path.relative_to("/tmp")).mkdir(parents=True, exist_ok=True)
        _mount(str(path), directory / path.relative_to("/tmp"), "none", MS_BIND | MS_REC)
    _mount(str(directory), "/tmp", "none", MS_BIND | MS_REC)
    os.chdir(cwd)
    _mount("none", "/", "none", MS_REC | MS_SHARED)


def _links(directory: Path) -> list[tuple[str, str]]:
    """Names a v1 host offers for hierarchies with two controllers: cpu -> cpu,cpuacct."""
    return [(entry.name, str(entry.readlink())) for entry in directory.iterdir() if entry.is_symlink()]


def _reap(pytest: int) -> int:
    """P1: wait for everybody, return pytest's status. With P1 the kernel ends all that is left."""
    for number in (signal.SIGINT, signal.SIGQUIT):  # they reach pytest by themselves: same process group
        signal.signal(number, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == pytest:
            return _exit_status(status)


def _outside(init: int, directory: Path, cgroups: list[tuple[Hierarchy, Path]]) -> int:
    """P0: wait for P1, end it when asked to end, remove what lies outside the namespaces."""

    def end(number: int, _frame: object) -> None:
        os.kill(init, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    _, status = os.waitpid(init, 0)
    for _, group in cgroups:
        _remove_groups(group)
    if os.environ.get("SAMPAN_TEST_KEEP"):
        sys.stderr.write(f"kept: {directory}\n")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return _exit_status(status)


def _remove_groups(top: Path) -> None:
    for path, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):  # one that is busy is seen by whoever looks: it carries the run's name
            os.rmdir(path)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
