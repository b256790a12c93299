"""Any config.json on any root ends in a container or in one clear line: the real thing, `run` by `run`.

SAMPAN_FUZZ says how many of each (40): more for a night.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.config_strategy import WHOLE, configs
from tests.runtime_fixture import PROGRAM, make_config, one_clear_line

import leaks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOME = settings(
    max_examples=int(os.environ.get("SAMPAN_FUZZ", "40")), deadline=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PATIENCE = 30
"""Seconds after which a run hangs. Nothing that is asked for takes one."""

ROOT_ENTRIES = (
    "proc", "sys", "dev", "tmp", "data", "etc", "dev/null", "dev/pts", "dev/mqueue", "sys/fs", "sys/fs/cgroup",
)
TARGETS = (
    "/", "..", ".", "/proc", "/proc/self/fd/7", "../../../../tmp", "/nowhere", "loop", "{victim}", "proc", "/dev",
)
KINDS = ("directory", "file", "fifo", "absent")
ENTRIES = st.dictionaries(st.sampled_from(ROOT_ENTRIES), st.sampled_from(KINDS + TARGETS), max_size=4)


def usual() -> dict[str, Any]:
    """What the usual config has, and of the whole document what such a host may give."""
    base = make_config(["/bin/true"], cgroup="/sampan-fuzz")
    whole = copy.deepcopy(WHOLE)
    base["process"] |= {key: whole["process"][key] for key in ("rlimits", "oomScoreAdj", "scheduler", "ioPriority")}
    base["mounts"] += whole["mounts"][-3:]
    for key in ("timeOffsets", "seccomp", "sysctl", "personality", "rootfsPropagation", "devices"):
        base["linux"][key] = whole["linux"][key]
    base["linux"]["namespaces"].append({"type": "time"})
    base["linux"]["resources"] |= {key: whole["linux"]["resources"][key] for key in ("memory", "pids", "cpu")}
    return base | {"hooks": whole["hooks"], "annotations": whole["annotations"], "domainname": "harbour"}


def mapped() -> dict[str, Any]:
    """The same in a user namespace of its own, with what else a config may hold."""
    base = usual()
    linux, whole = base["linux"], copy.deepcopy(WHOLE["linux"])
    linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        linux[kind] = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    linux["resources"] |= {key: whole["resources"][key] for key in ("unified", "hugepageLimits", "rdma", "blockIO")}
    linux |= {key: whole[key] for key in ("memoryPolicy", "netDevices", "mountLabel")}
    base["process"] |= {key: WHOLE["process"][key] for key in ("consoleSize", "execCPUAffinity", "selinuxLabel")}
    base["mounts"] += copy.deepcopy(WHOLE["mounts"][5:6])
    return base


class Place:
    """A bundle for one run. `victim` is a directory of the host that links in the root point to."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sampan-fuzz-"))
        self.root = self.directory / "root"
        self.victim = self.directory / "victim"
        for path in (self.root / "bin", self.directory / "data", self.victim):
            path.mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin/busybox")
        for name in ("true", "sh"):
            (self.root / "bin" / name).symlink_to("busybox")

    def give_to(self, owner: int) -> None:
        self.directory.chmod(0o755)
        for path in (self.root, *self.root.rglob("*")):
            os.lchown(path, owner, owner)

    def furnish(self, entries: dict[str, str]) -> None:
        """Make the image's entries: of a kind, or a link."""
        for name, what in sorted(entries.items()):
            path = self.root / name
            if path.is_symlink() or path.exists() or not self._parents(path.parent):
                continue
            if what == "directory":
                path.mkdir()
            elif what == "file":
                path.write_text("")
            elif what == "fifo":
                os.mkfifo(path)
            elif what != "absent":
                path.symlink_to(what.format(victim=self.victim))

    def _parents(self, path: Path) -> bool:
        """Real directories up to the root: the image is made without following its own links."""
        for each in [*reversed(path.relative_to(self.root).parents), path.relative_to(self.root)]:
            if (self.root / each).is_symlink() or ((self.root / each).exists() and not (self.root / each).is_dir()):
                return False
            (self.root / each).mkdir(exist_ok=True)
        return True

    def containers(self) -> list[str]:
        """What is left in the state directory, but the cache of compiled filters."""
        states = self.directory / "states"
        return [name for name in os.listdir(states) if not name.startswith(".")] if states.exists() else []

    def run(self, config: Any) -> subprocess.CompletedProcess[str]:
        (self.directory / "config.json").write_text(json.dumps(config))
        log = str(self.directory / "log")
        return subprocess.run(
            [*PROGRAM, "--root", f"{self.directory}/states", "--log", log, "run", "-b", str(self.directory), "fuzz"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
        )


def keep_off_the_host(config: Any) -> None:
    """As root it would be served: the root is this bundle's, and nothing of the host is bound writable."""
    if isinstance(config, dict) and isinstance(config.get("root"), dict):
        config["root"]["path"] = "root"
    mounts = config.get("mounts") if isinstance(config, dict) else None
    for mount in mounts if isinstance(mounts, list) else []:
        if isinstance(mount, dict) and str(mount.get("source", "")).startswith(("/", ".")):
            mount["source"] = "data"


def check(config: Any, entries: dict[str, str], owner: int = 0) -> None:
    keep_off_the_host(config)
    watch = leaks.Watch()
    place = Place()
    try:
        place.give_to(owner)
        place.furnish(entries)
        done = place.run(config)
        if done.stderr:
            event("refused")
            assert done.returncode == 1, (done.returncode, done.stderr)
            assert len(one_clear_line(done.stderr)) < 5000
        else:
            event(f"ran: {done.returncode}")
            assert done.returncode in (0, 126, 127, 137, 139, 159), done.returncode
        assert place.containers() == []
        assert os.listdir(place.victim) == []
    finally:
        shutil.rmtree(place.directory)
    left = watch.left()
    assert not left, leaks.describe(left)


@pytest.mark.parametrize("owner", [0, 100_000])
def test_the_config_as_it_is_runs(owner: int) -> None:
    """Else everything would be refused for the same reason, and nothing tested. Without limits that hosts may lack."""
    config = mapped() if owner else usual()
    for key in ("unified", "hugepageLimits", "rdma", "blockIO"):
        config["linux"]["resources"].pop(key, None)
    place = Place()
    try:
        place.give_to(owner)
        done = place.run(config)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    finally:
        shutil.rmtree(place.directory)


@SOME
@given(configs(usual(), most=3))
def test_a_changed_config(config: dict[str, Any]) -> None:
    check(config, {})


@SOME
@given(configs(mapped(), most=2))
def test_a_changed_config_in_a_user_namespace(config: dict[str, Any]) -> None:
    check(config, {}, 100_000)


@SOME
@given(ENTRIES, st.booleans())
def test_a_hostile_root(entries: dict[str, str], readonly: bool) -> None:
    config = usual()
    config["root"]["readonly"] = readonly
    check(config, entries)
