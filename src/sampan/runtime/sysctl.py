"""Which kernel settings a container may change: those of its own namespaces (config-linux.md, "Sysctl")."""

from __future__ import annotations

import os

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci import runtime as oci

_OF_IPC = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@:*")


def to_path(key: str) -> str:
    """The path below /proc/sys of a setting, as sysctl(8) reads its name: the separator is what comes first of "." and
    "/", the other one stands for itself turned round ("net.ipv4.conf.eth0/1.forwarding" is of device eth0.1).

    Raises InvalidArgument for a name that could lead elsewhere, or holds what no name does (CVE-2022-0811: "+" and "/"
    smuggled a second setting past a check that saw one).
    """
    first = next((letter for letter in key if letter in "./"), "")
    path = key.translate({ord("."): "/", ord("/"): "."}) if first == "." else key
    if not first or any(part[:1] in ("", ".") or not _LETTERS.issuperset(part) for part in path.split("/")):
        raise InvalidArgument(f"{key[:120]!r} is not the name of a sysctl")
    return path


def check(settings: Mapping[str, str], linux: oci.Linux) -> None:
    """Raises InvalidArgument for a setting that is not of a namespace that the container has to itself."""
    if not settings:
        return
    paths = {namespace.type: namespace.path for namespace in linux.namespaces}
    own = {kind for kind, path in paths.items() if not path or not _is_ours(kind, path)}
    for key, value in settings.items():
        if "\n" in value or "\0" in value:
            raise InvalidArgument(f"sysctl {key!r}: the value has more than one line")
        _check(key, to_path(key).replace(".", "\0").replace("/", ".").replace("\0", "/"), own)


def _check(key: str, name: str, own: set[str]) -> None:
    if name in _OF_IPC or name.startswith("fs.mqueue."):
        if "ipc" not in own:
            raise InvalidArgument(f"sysctl {key!r} is not allowed in the hosts ipc namespace")
    elif name.startswith("net."):
        if "network" not in own:
            raise InvalidArgument(f"sysctl {key!r} not allowed in host network namespace")
    elif name == "kernel.hostname" and "uts" in own:
        raise InvalidArgument(f"sysctl {key!r} is not allowed as it conflicts with the OCI 'hostname' field")
    elif not (name == "kernel.domainname" and "uts" in own):
        raise InvalidArgument(f"sysctl {key!r} is not in a separate kernel namespace")


def _is_ours(kind: str, path: str) -> bool:
    """Whether a namespace to join is the runtime's own: "host" means where we are, not the initial one."""
    files = {"network": "net", "mount": "mnt"}
    try:
        return os.path.samestat(os.stat(path), os.stat(f"/proc/self/ns/{files.get(kind, kind)}"))
    except OSError as error:
        raise InvalidArgument(f"invalid {kind} namespace path {path}: {error.strerror}") from error
