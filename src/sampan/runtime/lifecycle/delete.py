"""Delete: take away what is left of a container (runtime.md, "Delete")."""

from __future__ import annotations

import os

from sampan.errors import Conflict, InvalidArgument, NotFound, Unavailable
from sampan.linux import process, signals
from sampan.runtime import offspring
from sampan.runtime.lifecycle import hooks, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci import runtime as oci
    from sampan.runtime.lifecycle.create import Created
    from sampan.runtime.lifecycle.records import Entry, Record


def delete(entry: Entry, force: bool = False) -> list[str]:
    """Delete a stopped container, with `force` any: it is killed first. Returns warnings of poststop hooks.

    Cgroup, then directory: what fails half-way can be deleted again. Raises Conflict for one that is not stopped.
    """
    if force:
        _end_what_is_waited_for(entry)
    entry.lock()
    try:
        record: Record | None = entry.read()
    except NotFound:
        record = None
    except InvalidArgument:
        if not force:
            raise
        record = None  # nothing tells what it was: its directory is all that can be taken away
    found = status.of(entry, record) if record is not None else status.STOPPED
    if found in (status.RUNNING, status.PAUSED) and not force:
        raise Conflict(
            f"cannot delete container {entry.id} that is not stopped: {found}: stop it first, or use --force"
        )
    if record is None:
        entry.remove()
        return []
    _end(entry, record)
    warnings = _poststop(entry, record)
    entry.remove()
    return warnings


def delete_created(created: Created) -> list[str]:
    """The same by whoever made the container and knows it; it is killed if it still runs.

    Raises NotFound when another was faster.
    """
    entry, record = created.entry, created.record
    entry.lock()
    _end(entry, record)
    warnings = _run_poststop(created.spec, record)
    entry.remove()
    return warnings


def _end_what_is_waited_for(entry: Entry) -> None:
    """A create that hangs (in a hook, say) holds the lock for ever: it is ended, and its init stage with it. A start
    waits for process 1, which somebody who shares its pid namespace may have stopped (SIGSTOP).
    """
    if entry.lock(wait=False):
        return
    try:
        record = entry.read()
    except (NotFound, InvalidArgument):
        return
    if record.pid:
        first = _kill_first(record)
        if first >= 0:
            os.close(first)
        return
    if not record.creator:
        return
    try:
        pidfd = process.open_pidfd(record.creator)
    except ProcessLookupError:
        return
    try:
        if process.stat(record.creator).start_time == record.creator_start_time:
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        pass  # it has just ended
    finally:
        os.close(pidfd)


def _end(entry: Entry, record: Record) -> None:
    """Kill process 1 and wait for its end, then all others with the cgroup."""
    pidfd = _kill_first(record)
    group = entry.group(record)
    if group is not None:
        if group.frozen():
            try:
                group.thaw()
            except Unavailable:
                pass  # a group above is frozen: on v2 they end all the same, on v1 `remove` says that they do not
        group.remove()
    if pidfd >= 0:
        offspring.kill(pidfd)


def _kill_first(record: Record) -> int:
    """Process 1's pidfd, the caller's to close; -1 when it has ended."""
    try:
        pidfd = status.open_pidfd(record)
    except NotFound:
        return -1
    try:
        signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended
    return pidfd


def _poststop(entry: Entry, record: Record) -> list[str]:
    try:
        spec = entry.spec()
    except NotFound:
        return []
    except InvalidArgument as error:
        return [f"no poststop hooks are run: {error}"]
    return _run_poststop(spec, record)


def _run_poststop(spec: oci.Spec, record: Record) -> list[str]:
    if spec.hooks is None or not spec.hooks.poststop:
        return []
    state = hooks.state(spec, record.id, record.bundle, status.STOPPED, 0)
    return hooks.run_all(spec.hooks.poststop, state, "poststop")
