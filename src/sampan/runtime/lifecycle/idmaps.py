"""The id mappings of a container's user namespace: written by root itself, for others by newuidmap(1)."""

from __future__ import annotations

import os

from sampan.errors import Forbidden
from sampan.linux import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci import runtime as oci

_TOOLS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
_SEARCH = ("/usr/bin", "/bin", "/usr/local/bin")


def write(pid: int, uids: Sequence[oci.IDMapping], gids: Sequence[oci.IDMapping]) -> None:
    """Map the ids of the user namespace that process `pid` was born in. Raises Forbidden with what to do."""
    if not _write(pid, "uid_map", uids):
        _with_tool(pid, "uid_map", uids)
    if _write(pid, "gid_map", gids):
        return
    if len(gids) == 1 and gids[0].size == 1 and gids[0].host_id == os.getegid():
        userns.deny_setgroups(pid)
        if _write(pid, "gid_map", gids):
            return
    _with_tool(pid, "gid_map", gids)


def _write(pid: int, name: str, entries: Sequence[oci.IDMapping]) -> bool:
    """False when this process is not allowed to write that mapping."""
    try:
        userns.write_map(pid, name, userns.of_spec(entries))
    except PermissionError:
        return False
    return True


def _with_tool(pid: int, name: str, entries: Sequence[oci.IDMapping]) -> None:
    tool = _TOOLS[name]
    programs = (f"{where}/{tool}" for where in _SEARCH)
    program = next((path for path in programs if os.access(path, os.X_OK)), "")
    ids = [str(number) for entry in entries for number in (entry.container_id, entry.host_id, entry.size)]
    words = ", ".join(f"{entry.container_id} {entry.host_id} {entry.size}" for entry in entries)
    if not program:
        raise Forbidden(
            f"this user may not map the ids {words}: install {tool} (package uidmap) and give the user a range in "
            f"/etc/sub{name[:3]}"
        )
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.posix_spawn(
            program, [tool, str(pid), *ids], {"PATH": "/usr/bin:/bin"}, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 2)]
        )
        os.close(writing)
        writing = -1
        said = b""
        while more := os.read(reading, 4096):
            said = (said + more)[:4096]
        if os.waitpid(child, 0)[1] != 0:
            reason = said.decode("utf-8", "replace").strip().replace("\n", " ") or "it failed without a word"
            raise Forbidden(f"{tool} did not map the ids {words}: {reason}")
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
