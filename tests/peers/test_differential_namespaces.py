"""Namespaces joined by path, and containers of ordinary users: runc, crun and ours give the same view."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import runtimes, sailor
from peers.bundle import VIEW, Bundle, Change, default_config
from peers.host import options_kept
from peers.runtimes import HIDE_UNIFIED, Runtime
from peers.test_differential import ID, unexplained
from peers.variants_namespaces import owned_by
from peers.view import View, view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAMES = ("runc", "crun", "sampan-runtime")
KINDS = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid", "cgroup": "cgroup"}


@pytest.fixture
def holder() -> Iterator[int]:
    """The pid of a process in namespaces of its own, pid namespace's process 1 among them."""
    line = ["unshare", "--fork", "--kill-child", "--pid", "--net", "--ipc", "--uts", "--cgroup", "sh", "-c",
            "hostname held; echo ready; sleep 1000"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    process.kill()  # and with it its child; it does not listen to SIGTERM
    process.communicate()


@pytest.mark.parametrize("kinds", [["network"], ["ipc", "uts"], ["pid"], ["cgroup"], list(KINDS)], ids="-".join)
def test_joined(kinds: list[str], holder: int, bundle: Bundle, directory: Path) -> None:
    paths = {kind: f"/proc/{holder}/ns/{KINDS[kind]}" for kind in kinds}

    def change(it: Bundle) -> None:
        it.namespaces(*({"mount", "pid", "network", "ipc", "uts"} - set(kinds)), **paths)
        if "uts" in kinds:
            it.config["hostname"] = ""

    known = {os.readlink(path): f"the joined {kind}" for kind, path in paths.items()}
    views = {}
    for runtime in runtimes.runtimes(NAMES, directory):
        bundle.make(change)
        with options_kept(runtime.name):
            try:
                views[runtime.name] = view(runtime("run", "--bundle", str(bundle.directory), ID).out, known)
            finally:
                runtime.delete(ID)
    ours = views.pop("sampan-runtime")
    for kind in kinds:
        assert ours[f"namespace {KINDS[kind]}"] == f"the joined {kind}"
    assert not (lines := unexplained("joined", ours, views)), lines


def rootless(bundle: Bundle) -> None:
    """`runc spec --rootless` for the sailor, who has no groups and no ids but his own."""
    bundle.config = default_config("--rootless")
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [{"containerID": 0, "hostID": sailor.UID, "size": 1}]
    owned_by(bundle, sailor.UID)


def rootless_with_subordinates(bundle: Bundle) -> None:
    """With newuidmap(1): root is the sailor, the others are his subordinates."""
    rootless(bundle)
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name].append({"containerID": 1, "hostID": sailor.SUBORDINATE, "size": 65536})


def rootless_user(bundle: Bundle) -> None:
    rootless_with_subordinates(bundle)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}  # runc: no additional groups


def rootless_limits(bundle: Bundle) -> None:
    rootless_with_subordinates(bundle)
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    bundle.linux["readonlyPaths"].append("/etc")
    bundle.mount("/tmp", "nosuid", "size=1m", type="tmpfs", source="tmpfs")
    bundle.mount("/mnt", "rbind", "ro", source="a/")


def as_sailor(name: str, directory: Path) -> Runtime:
    """A runtime that he runs, with a state directory of his."""
    state = directory / f"state-{name}"
    state.mkdir()
    os.chown(state, sailor.UID, sailor.UID)
    more = HIDE_UNIFIED if name == "crun" and runtimes.is_hybrid() else ""
    environment = ("env", f"XDG_RUNTIME_DIR={state}", "HOME=/")
    return Runtime(name, (*sailor.prefix(directory / "etc", more), *environment, str(runtimes.find(name))), state)


@pytest.mark.parametrize("change", [rootless, rootless_with_subordinates, rootless_user, rootless_limits])
def test_rootless(change: Change, bundle: Bundle, directory: Path) -> None:
    sailor.write_etc(directory / "etc", directory)
    views: dict[str, View] = {}
    for name in NAMES:
        bundle.make(change)
        runtime = as_sailor(name, directory)
        try:
            views[name] = view(runtime("run", "--bundle", str(bundle.directory), ID, cwd="/").out)
        finally:
            runtime.delete(ID)
    ours = views.pop("sampan-runtime")
    assert not (lines := unexplained("rootless", ours, views)), lines


def test_rootless_exec(bundle: Bundle, directory: Path) -> None:
    sailor.write_etc(directory / "etc", directory)

    def change(it: Bundle) -> None:
        rootless_with_subordinates(it)
        it.process["args"] = ["sleep", "1000"]

    views: dict[str, View] = {}
    for name in NAMES:
        bundle.make(change)
        runtime = as_sailor(name, directory)
        try:
            with open(directory / "out", "w") as out:
                runtime("run", "--detach", "--bundle", str(bundle.directory), ID, stdout=out, stderr=out, cwd="/")
            views[name] = view(runtime("exec", "--user", "1000:1000", ID, "sh", "-c", VIEW, cwd="/").out)
            assert runtime.state(ID)["status"] == "running"
        finally:
            runtime.delete(ID)
    ours = views.pop("sampan-runtime")
    assert not (lines := unexplained("rootless", ours, views)), lines
