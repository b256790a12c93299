"""Why a container ended, in plain words: exit status, signal, memory, and who asked for it."""

from __future__ import annotations

import signal
from typing import Any

MEMORY_LIMIT = "memory limit of this container"
HOST_MEMORY = "host out of memory"
SHIM_LOST = "shim lost"
SHELL_CODES = {
    125: "the engine could not start it",
    126: "its command was found but could not be executed (is it a program, with the execute bit, for this CPU?)",
    127: "its command was not found (is it in the image, and in PATH?)",
}
SIGNALS = {
    "SIGABRT": "it gave up on a failed check of its own",
    "SIGBUS": "it touched memory that could not be had (often: a mapped file became shorter, or /dev/shm is full; see "
    "--shm-size)",
    "SIGFPE": "a calculation that cannot be, such as a division by zero",
    "SIGHUP": "its terminal was closed",
    "SIGILL": "an instruction this CPU does not know (was it built for another one?)",
    "SIGINT": "Ctrl-C",
    "SIGKILL": "it was killed without a chance to react",
    "SIGPIPE": "it wrote to something that nobody reads any more",
    "SIGSEGV": "it touched memory that is not its own: a defect of the program",
    "SIGSYS": "it used a system call that the seccomp policy kills for",
    "SIGTERM": "it was asked to stop",
    "SIGXCPU": "its CPU time limit (--ulimit cpu) was used up",
    "SIGXFSZ": "its file size limit (--ulimit fsize) was reached",
}


def signal_name(number: int) -> str:
    """SIGKILL for 9; "signal 64" where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def why(details: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
    """Sentences, the most telling first. `details` is the API's inspect, `events` what happened to the container."""
    state = details["State"]
    if state["Status"] == "created":
        sentences = ["It has not been started yet."]
        if state.get("Error"):
            sentences = [f"It could not be started: {state['Error']}."]
        return sentences
    code = int(state["ExitCode"])
    sentences = [*_memory(details), *_status(code, state)]
    asked = _asked(events)
    if asked:
        sentences.append(asked)
    elif code == 128 + signal.SIGKILL and not state["OOMKilled"] and not state.get("KilledBy"):
        sentences.append(
            "Nobody asked the engine for that: somebody killed the process on the host itself, or another process in "
            "the container did."
        )
    return [*sentences, *_restarts(details)]


def _memory(details: dict[str, Any]) -> list[str]:
    state = details["State"]
    killed_by = state.get("KilledBy") or (MEMORY_LIMIT if state["OOMKilled"] else "")
    limit = int(details["HostConfig"].get("Memory") or 0)
    if killed_by == MEMORY_LIMIT and limit:
        return [
            f"The kernel killed it because it needed more than its memory limit of {limit / (1 << 20):.0f} MiB "
            "(--memory). Give it more with `sampan update --memory …`, or let it need less."
        ]
    if killed_by in (MEMORY_LIMIT, HOST_MEMORY):
        return [
            "The kernel killed it because the host (or a group above the container's) ran out of memory: it has no "
            "limit of its own that it exceeded. A --memory limit on those who use most protects the others."
        ]
    if killed_by == SHIM_LOST:
        return ["Its shim, the process that looks after it, was killed from outside; the engine ended what was left."]
    return [f"It was ended by: {killed_by}."] if killed_by else []


def _status(code: int, state: dict[str, Any]) -> list[str]:
    if code == 0:
        return ["It ended by itself, with success (exit status 0)."]
    if code in SHELL_CODES and state.get("Error"):
        return [f"It was not started: {SHELL_CODES[code]} (exit status {code}): {state['Error']}."]
    if code > 128 and code - 128 <= 64:
        name = signal_name(code - 128)
        meaning = SIGNALS.get(name, "")
        return [f"Exit status {code} is 128 + {code - 128}: it ended by {name}" + (f", {meaning}." if meaning else ".")]
    if code in SHELL_CODES:
        return [f"Exit status {code}: by convention, {SHELL_CODES[code]}; or the program chose that number."]
    return [f"It ended by itself with exit status {code}, the program's own word for a failure: see `sampan logs`."]


def _asked(events: list[dict[str, Any]]) -> str:
    """The last thing that somebody asked the engine for before the end."""
    kills: list[str] = []
    stopped = False
    for event in events:
        action = str(event.get("Action") or event.get("status") or "")
        attributes = (event.get("Actor") or {}).get("Attributes") or {}
        if action == "start":
            kills, stopped = [], False
        elif action == "kill":
            kills.append(signal_name(int(attributes["signal"])) if str(attributes.get("signal", "")).isdigit() else
                         str(attributes.get("signal", "a signal")))
        elif action in ("stop", "restart"):
            stopped = True
    if stopped and len(kills) > 1 and kills[-1] == "SIGKILL":
        return (
            f"Somebody used stop: it got {kills[0]}, did not end within its grace time, and got SIGKILL. A program "
            "that is process 1 ignores signals it has no handler for: use --init, exec-form CMD, or another STOPSIGNAL."
        )
    if stopped:
        return f"Somebody used stop: it got {kills[0] if kills else 'its stop signal'} and ended."
    return f"Somebody used kill: it got {', then '.join(kills)}." if kills else ""


def _restarts(details: dict[str, Any]) -> list[str]:
    count = int(details.get("RestartCount") or 0)
    policy = details["HostConfig"].get("RestartPolicy") or {}
    if not count:
        return []
    return [f"It has been started again {count} time{'s' if count > 1 else ''} (--restart {policy.get('Name')})."]
