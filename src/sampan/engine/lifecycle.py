"""The states of a container and what may follow, in one table; every other wish is answered by Docker's error.

    created ──start──▶ running ◀──unpause── paused            removing, dead: nothing follows but removal
       ▲ │                │  ────pause────▶   │
       │ └──remove──▶ …   │ exit              │ exit
    (start failed)        ▼                   ▼
                        exited ──start──▶ running             restarting: exited, and waiting to start again
"""

from __future__ import annotations

from sampan.errors import Conflict, NotModified, SampanError

CREATED, RUNNING, PAUSED, RESTARTING = "created", "running", "paused", "restarting"
REMOVING, EXITED, DEAD = "removing", "exited", "dead"
STATES = (CREATED, RUNNING, PAUSED, RESTARTING, REMOVING, EXITED, DEAD)
ALIVE = frozenset({RUNNING, PAUSED})
"""There is a process 1."""

# (action, state) → the error's words; what is not here may be done. {name} has no slash, {id} is the full one.
_NOT_RUNNING = "container {id} is not running"
_RESTARTING = "Container {id} is restarting, wait until the container is running"
_REMOVE = 'cannot remove container "/{name}": '
_REFUSED: dict[tuple[str, str], str] = {
    ("start", RUNNING): "",
    ("start", PAUSED): "cannot start a paused container, try unpause instead",
    ("start", REMOVING): "container is marked for removal and cannot be started",
    ("start", DEAD): "container is marked for removal and cannot be started",
    ("stop", CREATED): "",
    ("stop", EXITED): "",
    ("stop", DEAD): "",
    ("stop", REMOVING): "",
    ("kill", CREATED): "cannot kill container: {name}: " + _NOT_RUNNING,
    ("kill", EXITED): "cannot kill container: {name}: " + _NOT_RUNNING,
    ("kill", RESTARTING): "cannot kill container: {name}: " + _NOT_RUNNING,
    ("kill", REMOVING): "cannot kill container: {name}: " + _NOT_RUNNING,
    ("kill", DEAD): "cannot kill container: {name}: " + _NOT_RUNNING,
    ("pause", CREATED): _NOT_RUNNING,
    ("pause", EXITED): _NOT_RUNNING,
    ("pause", REMOVING): _NOT_RUNNING,
    ("pause", DEAD): _NOT_RUNNING,
    ("pause", PAUSED): "container {id} is already paused",
    ("pause", RESTARTING): _RESTARTING,
    ("unpause", CREATED): "Container {id} is not paused",
    ("unpause", RUNNING): "Container {id} is not paused",
    ("unpause", EXITED): "Container {id} is not paused",
    ("unpause", RESTARTING): "Container {id} is not paused",
    ("unpause", REMOVING): "Container {id} is not paused",
    ("unpause", DEAD): "Container {id} is not paused",
    ("exec", CREATED): _NOT_RUNNING,
    ("exec", EXITED): _NOT_RUNNING,
    ("exec", REMOVING): _NOT_RUNNING,
    ("exec", DEAD): _NOT_RUNNING,
    ("exec", PAUSED): "Container {name} is paused, unpause the container before exec",
    ("exec", RESTARTING): _RESTARTING,
    ("attach", PAUSED): "container {id} is paused, unpause the container before attach",
    ("attach", RESTARTING): "container {id} is restarting, wait until the container is running before attach",
    ("attach", REMOVING): "container {id} is being removed",
    ("attach", DEAD): "container {id} is dead",
    ("top", CREATED): _NOT_RUNNING,
    ("top", EXITED): _NOT_RUNNING,
    ("top", REMOVING): _NOT_RUNNING,
    ("top", DEAD): _NOT_RUNNING,
    ("top", RESTARTING): "container {id} is restarting, wait until the container is running",
    ("resize", CREATED): _NOT_RUNNING,
    ("resize", EXITED): _NOT_RUNNING,
    ("resize", RESTARTING): _NOT_RUNNING,
    ("resize", REMOVING): _NOT_RUNNING,
    ("resize", DEAD): _NOT_RUNNING,
    ("remove", RUNNING): _REMOVE + "container is running: stop the container before removing or force remove",
    ("remove", PAUSED): _REMOVE + "container is paused and must be unpaused first",
    ("remove", RESTARTING): _REMOVE + "container is restarting: stop the container before removing or force remove",
    ("remove", REMOVING): "removal of container {id} is already in progress",
    ("update", REMOVING): "container is marked for removal and cannot be updated",
    ("update", DEAD): "container is marked for removal and cannot be updated",
    ("rename", REMOVING): "Container {id} is marked for removal and cannot be renamed",
    ("rename", DEAD): "Container {id} is marked for removal and cannot be renamed",
}

# state → the states that may follow it
_FOLLOWING: dict[str, frozenset[str]] = {
    CREATED: frozenset({CREATED, RUNNING, REMOVING, EXITED}),
    RUNNING: frozenset({PAUSED, EXITED, RESTARTING}),
    PAUSED: frozenset({RUNNING, EXITED, RESTARTING}),
    EXITED: frozenset({RUNNING, RESTARTING, REMOVING, EXITED}),
    RESTARTING: frozenset({RUNNING, EXITED, REMOVING, RESTARTING}),
    REMOVING: frozenset({DEAD}),
    DEAD: frozenset({REMOVING}),
}


def check(action: str, state: str, name: str, id: str) -> None:
    """Raises what Docker answers when `action` does not fit the state: Conflict, or NotModified if it is already so."""
    words = _REFUSED.get((action, state))
    if words is None:
        return
    kind: type[SampanError] = Conflict if words else NotModified
    raise kind(words.format(name=name, id=id) or f"container {name} is {state} already")


def follows(state: str, next_state: str) -> bool:
    return next_state in _FOLLOWING[state]
