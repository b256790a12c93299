"""A process in namespaces of its own that applies operations to a root, for tests of the runtime's mounts."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.linux import clone
from sampan.oci import runtime as oci
from sampan.runtime import mount_entries
from sampan.runtime.operation import Operation, Stage
from sampan.runtime.options import root_propagation
from sampan.runtime.root import BindRoot, DetachPropagation, EnterRoot


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo: proc(5)."""

    id: int
    parent: int
    root: str
    place: str
    options: frozenset[str]
    tags: frozenset[str]
    kind: str
    source: str
    super_options: frozenset[str]


def mounts(directory: str = "") -> dict[str, Mounted]:
    """This process's mounts by place, the topmost of each; below `directory` their places are relative to it."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        place = fields[4]
        if not place.startswith(directory):
            continue
        place = place.removeprefix(directory) or "/"
        found[place] = Mounted(
            int(fields[0]), int(fields[1]), fields[3], place, frozenset(fields[5].split(",")), frozenset(fields[6:]),
            rest[0], rest[1], frozenset(rest[2].split(",")),
        )
    return found


def in_namespaces(work: Callable[[], Any], flags: int = 0, ids: Sequence[tuple[int, int, int]] = ()) -> Any:
    """What `work` returns (JSON) in a child with a mount namespace of its own and those of `flags` (clone.NEW…).

    With `ids` it has a user namespace with this mapping and is root there. What it raises is raised here: OSError with
    its errno and filename, anything else as AssertionError.
    """
    says, hears = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(says[0])
        os.close(hears[1])
        _child(work, flags, bool(ids), says[1], hears[0])
    os.close(says[1])
    os.close(hears[0])
    with os.fdopen(says[0], "rb") as file:
        if ids:
            assert file.readline() == b"unshared\n"
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{pid}/{name}").write_text("".join(f"{a} {b} {c}\n" for a, b, c in ids))
        os.close(hears[1])
        answer = file.read()
    os.waitpid(pid, 0)
    said = json.loads(answer)
    if "errno" in said:
        raise OSError(said["errno"], said["strerror"], said["filename"])
    assert "trace" not in said, said["trace"]
    return said["result"]


def _child(work: Callable[[], Any], flags: int, mapped: bool, says: int, hears: int) -> None:
    try:
        clone.unshare(clone.NEWNS | flags | (clone.NEWUSER if mapped else 0))
        if mapped:
            os.write(says, b"unshared\n")
            os.read(hears, 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        if flags & clone.NEWPID and (pid := os.fork()):
            os.waitpid(pid, 0)
            os._exit(0)
        answer = {"result": work()}
        json.dumps(answer)
    except OSError as error:
        answer = {"errno": error.errno, "strerror": error.strerror, "filename": str(error.filename)}
    except BaseException:
        answer = {"trace": traceback.format_exc()}
    os.write(says, json.dumps(answer).encode())
    os._exit(0)


def apply(operations: Sequence[Operation], stage: Stage | None = None) -> Stage:
    stage = stage or Stage()
    for operation in operations:
        operation.apply(stage)
    return stage


def mount(destination: str, *options: str, kind: str = "bind", source: str | Path = "", **more: Any) -> oci.Mount:
    return oci.Mount(destination=destination, type=kind, source=str(source), options=list(options), **more)


def furnished(
    root: Path, entries: Sequence[oci.Mount], work: Callable[[], Any] = lambda: None, *, propagation: str = "",
    devices: Sequence[oci.Device] = (), make_dev: bool = False, more: Sequence[Operation] = (), enter: bool = False,
    prepared: dict[int, int] | None = None, own_cgroups: bool = True, **namespaces: Any,
) -> Any:
    """What `work` returns in a child whose root, `root`, has the mounts of `entries`; `enter`: as its own root."""

    def build() -> Any:
        flags = root_propagation(propagation)
        linux = oci.Linux(devices=list(devices))
        plan: list[Operation] = [DetachPropagation(flags), BindRoot(str(root), str(root))]
        plan += mount_entries.operations(linux, entries, None, own_cgroups, prepared or {})
        if make_dev:
            plan += mount_entries.device_operations(linux, entries)
        plan += more
        plan += mount_entries.readonly_operations(entries)
        if enter:
            plan.append(EnterRoot(flags))
        apply(plan)
        return work()

    return in_namespaces(build, **namespaces)


def let_through(path: Path) -> None:
    """Let the root of a user namespace pass through the directories above, which pytest keeps for its user."""
    for directory in (path, *path.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
