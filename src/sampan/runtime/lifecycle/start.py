"""Start: let the program of a created container run (runtime.md, "Start"), and see that it does."""

from __future__ import annotations

import os

from sampan.errors import Conflict, Internal, SampanError, Unavailable, from_message
from sampan.jobs import channel as wire
from sampan.linux import signals
from sampan.runtime import init
from sampan.runtime.lifecycle import hooks, kill, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from sampan.oci import runtime as oci
    from sampan.runtime.lifecycle.create import Created
    from sampan.runtime.lifecycle.records import Entry, Record


def start(entry: Entry) -> list[str]:
    """Start a created container; returns warnings. Raises Conflict when it is not created, or what went wrong inside.

    A program that could not be executed leaves a stopped container.
    """
    entry.lock()
    record = entry.read()
    found = status.of(entry, record)
    if found != status.CREATED:
        raise Conflict(_refusal(found))
    try:
        sock = status.connect(entry)
    except (FileNotFoundError, ConnectionRefusedError):
        raise Conflict(_refusal(status.of(entry, record))) from None
    except BlockingIOError:
        raise Unavailable(f"the init stage of container {entry.id}, process {record.pid}, takes no calls") from None
    return _go(entry, record, entry.spec(), sock)


def start_created(created: Created) -> list[str]:
    """The same at once, by whoever made it."""
    return _go(created.entry, created.record, created.spec, created.sync)


def _refusal(found: str) -> str:
    if found == status.STOPPED:
        return "cannot start a container that has stopped"
    if found == status.RUNNING:
        return "cannot start an already running container"
    return f"cannot start a container in the {found} state"


def _go(entry: Entry, record: Record, spec: oci.Spec, sock: socket.socket) -> list[str]:
    try:
        wire.send(sock, {"start": True})
        warnings = follow(sock, spec, record)
    finally:
        sock.close()
    entry.forget_socket()
    if spec.hooks is not None and spec.hooks.poststart:
        state = hooks.state(spec, record.id, record.bundle, status.RUNNING, record.pid)
        try:
            hooks.run(spec.hooks.poststart, state, "poststart")
        except SampanError:
            kill.kill(entry, signals.SIGKILL, everyone=True)  # runtime.md, "Lifecycle": an error stops the container
            raise
    return warnings


def follow(sock: socket.socket, spec: oci.Spec, record: Record) -> list[str]:
    """Wait until the program runs; returns warnings. Raises the error that the init stage reports."""
    warnings: list[str] = []
    executes = False
    while (received := wire.receive(sock)) is not None:
        message, fds = received
        if "error" in message:
            raise from_message(message["error"])
        if "trampoline" in message:
            assert spec.process is not None
            raise init.trampoline_failed(spec.process.args[0], message["trampoline"])
        if "seccomp" in message:
            _hand_over(sock, message["seccomp"], fds, spec, record)
        warnings += message.get("warnings", [])
        executes = executes or "exec" in message
    if not executes:
        raise Internal("the container's init stage ended before it could run the program (was it killed?)")
    return warnings


def _hand_over(sock: socket.socket, number: int, given: list[int], spec: oci.Spec, record: Record) -> None:
    """Give the init stage's seccomp listener to the policy's agent: it waits for that, and nobody else would answer."""
    from sampan.runtime import seccomp_agent  # allowed: the runtime, not the container; rare

    assert spec.linux is not None and spec.linux.seccomp is not None
    state = hooks.state(spec, record.id, record.bundle, status.CREATED, record.pid)
    pidfd = os.pidfd_open(record.pid)
    try:
        seccomp_agent.hand_over(sock, number, given, pidfd, record.pid, spec.linux.seccomp, state)
    finally:
        os.close(pidfd)
