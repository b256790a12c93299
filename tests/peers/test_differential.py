"""The same bundle under runc, crun and ours: the program inside sees the same.

What runc and crun see alike, ours must see so; where they differ, ours may do as either does. Differences that are
meant are in DELIBERATE, with the reason.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import runtimes, variants_mounts, variants_namespaces, variants_process
from peers.bundle import Bundle, Change
from peers.host import options_kept, v2_options
from peers.runtimes import Runtime
from peers.variant import VARIANTS, Variant, default
from peers.view import View, differences, view

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ID = "sampan-view"

TABLE = (variants_process, variants_mounts, variants_namespaces)
"""Importing these has filled VARIANTS."""

DELIBERATE: tuple[tuple[str, str, str, str], ...] = (
    ("*", "mount /*", "tmpfs tmpfs / relatime,ro, *nr_inodes=1,rw*", "a masked directory holds one inode, its root"),
    ("*", "mount /sys/fs/cgroup", "tmpfs tmpfs / *,ro, *", "the spec says ro; runc and crun leave it writable on v1"),
    ("*", "watched /sys/fs/cgroup", "r, Read-only file system, directory 755", "as above"),
    ("group_namespace_and_writable_mount", "watched /sys/fs/cgroup", "r, w, directory 755", "a directory's usual mode"),
    ("*", "mount /*", "devtmpfs devtmpfs /null *ro, *", "files are masked with the host's null, as crun does"),
    ("*", "watched /*", "r, Read-only file system, character special file 666", "as above"),
    ("*", "propagation /*", "master", "of the host's null; nothing is ever mounted on it"),
    ("propagation_shared", "propagation /proc/*", "shared", "as above; the spec wants all shared"),
    ("propagation_private", "propagation /sys/fs/cgroup/*", "private", "as the spec says"),
    ("propagation_unbindable", "propagation /*", "private", "as the spec says"),
    ("propagation_unbindable", "propagation /", "unbindable", "as the spec says"),
    ("tmpfs*", "mount /*", "tmpfs tmpfs / *mode=*", "the mode of what it covers, given with the mount"),
    ("mounts_over_one_another", "mount /mnt", "tmpfs one / relatime,rw, *mode=755,rw", "as above"),
    ("*", "cgroup ", "*", "on a hybrid host the v2 hierarchy is left alone: docs/architecture.md"),
    ("*", "cgroup name=systemd", "*", "as above: no limit is in a hierarchy without controllers"),
    ("*", "* /sys/fs/cgroup/systemd", "absent", "as above"),
    ("*_of_the_host", "mount /sys/fs/cgroup", "cgroup2 *nsdelegate,rw", "runc and crun take it from the host"),
    ("user_namespace_devices*", "device /dev/fuse", "character special file|a:e5|666|0:0", "as the spec says"),
    ("user_namespace_devices*", "mount /dev/fuse", "*/state/sampan-view/device-2 *", "a node that is made for it"),
    ("rootless", "mount /sys/fs/cgroup", "*\ncgroup2 cgroup / *,ro, rw", "his own groups, read-only, as with root"),
    ("exec_process", "oom_score_adj", "500", "the file of `exec --process` says so"),
)
"""(variant, fact, what ours is, why that differs from both); the first three are patterns as in fnmatch."""


def look(runtime: Runtime, bundle: Bundle, change: Change) -> View:
    """What a container of the default bundle after `change` sees under `runtime`."""
    bundle.make(change)
    with options_kept(runtime.name):
        try:
            return view(runtime("run", "--bundle", str(bundle.directory), ID).out)
        finally:
            runtime.delete(ID)


def seen_by_others(variant: Variant, bundle: Bundle, directory: Path) -> dict[str, View]:
    """The views of those that can run it. Where runc can not: of what crun says that `variant` leaves as it was, or
    what is not expected to change."""
    views = {str(peer): look(peer, bundle, variant.change) for peer in runtimes.runtimes(variant.peers, directory)}
    if "runc" not in views:
        runc, crun = (look(peer, bundle, variant.base) for peer in runtimes.runtimes(("runc", "crun"), directory))
        touched = differences(crun, views["crun"]).keys() if "crun" in views else variant.expected.keys()
        views["runc"] = {name: text for name, text in runc.items() if name not in touched} | dict(variant.expected)
    return views


def unexplained(variant: str, ours: View, others: dict[str, View]) -> str:
    """The facts in which ours is like none of the others, as lines; "" if there is none."""
    lines = []
    for name in sorted(ours.keys() | {name for other in others.values() for name in other}):
        mine = ours.get(name, "absent")
        theirs = {peer: other.get(name, "absent") for peer, other in others.items()}
        meant = any(
            fnmatch.fnmatch(variant, v) and fnmatch.fnmatch(name, n) and fnmatch.fnmatch(mine, m)
            for v, n, m, _ in DELIBERATE
        )
        if mine not in theirs.values() and not meant:
            lines += [f"{name}", f"    ours: {mine}", *(f"    {peer}: {text}" for peer, text in theirs.items())]
    return "\n".join(lines)


@pytest.fixture
def bundle(directory: Path) -> Iterator[Bundle]:
    yield Bundle(directory / "bundle")
    for hierarchy in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]:
        for path in ("deep", "."):  # the parents of `cgroupsPath` are nobody's
            with contextlib.suppress(FileNotFoundError):
                (hierarchy / "sampan-view-parent" / path).rmdir()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_view_is_the_same(variant: Variant, bundle: Bundle, directory: Path) -> None:
    others = seen_by_others(variant, bundle, directory)
    ours = look(runtimes.runtime("sampan-runtime", directory / "state"), bundle, variant.change)
    assert not (lines := unexplained(variant.name, ours, others)), lines


def test_what_is_compared_is_steady_and_tells_variants_apart(bundle: Bundle, directory: Path) -> None:
    """Two runs of one bundle under one runtime are equal, and every variant but the first differs from it."""
    runc = runtimes.runtime("runc", directory / "state")
    usual = look(runc, bundle, default)
    assert differences(usual, look(runc, bundle, default)) == {}
    alike = {
        variant.name
        for variant in VARIANTS[1:]
        if "runc" in variant.peers and not differences(usual, look(runc, bundle, variant.change))
    }
    same = {"argument_path", "root_by_relative_path", "propagation_slave"}  # other ways to say the same
    if v2_options():  # runc's default has a cgroup namespace, which shows every group as "/"
        same |= {"cgroup_namespace", "group_by_path"}
    assert alike == same
