"""Nothing half-made stays: what a start that failed, or a run that is over, leaves of a runtime's doing.

Every step is tried, whatever became of the one before it; what cannot be undone is said in the engine's log.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection

from sampan.errors import NotFound, SampanError
from sampan.linux import paths, process
from sampan.linux.cgroup import Group
from sampan.shim.complaint import complain
from sampan.shim.external import command, hierarchies
from sampan.shim.messages import Runtime, Setup

PATIENCE = 5.0  # seconds for `delete`: what it does not do is done without it; the engine waits 10 s for an end


def start(setup: Setup, directory: int, starter: int) -> None:
    """All of a start that failed: container, processes, cgroup, RUN. The starter, our child too, is left alone."""
    delete(setup, directory)
    end_children({starter})
    group(setup)
    empty(directory)
    os.close(directory)
    os.rmdir(setup.directory)


def group(setup: Setup) -> str:
    """The cgroup, with what is in it, in all hierarchies: a runtime may use more than we do. Why not, or ""."""
    try:
        with contextlib.suppress(NotFound):
            Group.open(setup.cgroup_host, setup.cgroup_path).remove()
        hierarchies.remove_empty(setup.cgroup_path)
    except (OSError, SampanError) as error:
        complain(f"{setup.id}: its cgroup could not be removed: {error}")
        return f"its cgroup could not be removed: {error}"
    return ""


def delete(setup: Setup, directory: int) -> None:
    """`RUNTIME delete --force ID`, if the runtime has a state of it, and the state itself."""
    assert setup.runtime is not None
    try:
        if _has_state(directory):
            hasty = Runtime(setup.runtime.path, min(PATIENCE, setup.runtime.patience))
            failed = command.run(hasty, directory, ["delete", "--force", setup.id])
            if failed:
                complain(f"{setup.id}: {failed}")
    except (OSError, SampanError) as error:
        complain(f"{setup.id}: its runtime could not delete it: {error}")


def _has_state(directory: int) -> bool:
    try:
        return bool(os.listdir(f"/proc/self/fd/{directory}/{command.STATE}"))
    except FileNotFoundError:
        return False


def end_children(keep: Collection[int]) -> None:
    """SIGKILL our children, and those who become ours by that, until none is left; take their exits."""
    while others := process.children() - set(keep):
        for pid in others:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def empty(directory: int, but: Collection[str] = ()) -> None:
    """Remove all that is in RUN `but` some names; mounts are not crossed."""
    for name in set(os.listdir(directory)) - set(but):
        paths.remove_tree(directory, name)
