"""Which namespaces a container has for itself, shares with another container, or with the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.errors import InvalidArgument
from sampan.oci.runtime import Namespace

# kind → (member of HostConfig, what it may say besides "host" and "", whether it may name a container, Docker's word)
_MODES = {
    "pid": ("PidMode", ("private",), True, "PID mode"),
    "ipc": ("IpcMode", ("private", "shareable", "none"), True, "IPC mode"),
    "uts": ("UTSMode", ("private",), False, "UTS mode"),
    "cgroup": ("CgroupnsMode", ("private",), False, "cgroup namespace mode"),
    "user": ("UsernsMode", ("private",), False, "user namespace mode"),
    "time": ("TimensMode", ("private",), False, "time namespace mode"),
}
_HOST_BY_DEFAULT = ("user", "time")


def mode(host_config: Mapping[str, Any], kind: str) -> str:
    """"private", "host" or "container:REF". Raises InvalidArgument for anything else, in Docker's words."""
    if kind == "network":
        named = str(host_config.get("NetworkMode") or "default")
        return named if named == "host" or named.startswith("container:") else "private"
    member, private, joins, word = _MODES[kind]
    said = str(host_config.get(member) or "")
    if said == "host" or (not said and kind in _HOST_BY_DEFAULT):
        return "host"
    if not said or said in private:
        return "private"
    if joins and said.startswith("container:") and len(said) > len("container:"):
        return said
    raise InvalidArgument(f"invalid {word}: {said[:100]}")


def make(host_config: Mapping[str, Any], joined: Mapping[str, str]) -> list[Namespace]:
    """The spec's list: an entry for each kind that is not the host's. `joined`: kind → path of another container's.

    A network namespace that comes ready by descriptor is listed without a path. Raises InvalidArgument.
    """
    found = [Namespace(type="mount")]
    for kind in ("network", *_MODES):
        if mode(host_config, kind) != "host":
            found.append(Namespace(type=kind, path=joined.get(kind, "")))
    return found


def own(host_config: Mapping[str, Any]) -> set[str]:
    """The kinds that the container shares with nobody."""
    return {kind for kind in ("network", *_MODES) if mode(host_config, kind) == "private"}
